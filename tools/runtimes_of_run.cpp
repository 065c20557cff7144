#include "runtimes_of_run.h"

#include <algorithm>

#include "ptq/base/error.h"
#include "ptq/base/join.h"
#include "ptq/pipeline/plan.h"

namespace ptq {
namespace {

constexpr size_t kNamesShown = 4;

// The last parts of names, each once, with the number of them: "24 layers: k_proj, q_proj".
std::string layers_text(const std::vector<std::string>& names) {
  std::vector<std::string> parts;
  for (const std::string& name : names) {
    const std::string part = name.substr(name.rfind('.') + 1);
    if (std::find(parts.begin(), parts.end(), part) == parts.end()) parts.push_back(part);
  }
  const size_t left = parts.size() - std::min(parts.size(), kNamesShown);
  parts.resize(parts.size() - left);
  return std::to_string(names.size()) + (names.size() == 1 ? " layer: " : " layers: ") + join(parts, ", ") +
         (left > 0 ? " and " + std::to_string(left) + " more" : "");
}

std::string title(const RuntimeEntry& runtime) {
  return std::string(runtime.name) + " " + runtime.version + " (" + runtime.date + ")";
}

std::string fit_text(const RuntimeFit& fit) {
  std::string text = std::string("  ") + fit.format->name + ": " + (fit.loads() ? "loads" : "does not load");
  text += fit.loads() && *fit.format->note != '\0' ? std::string("; ") + fit.format->note + "\n" : "\n";
  for (const std::string& reason : fit.reasons) text += "    " + reason + "\n";
  if (!fit.changes.empty()) text += "    try: " + join(fit.changes, "; or ") + "\n";
  if (!fit.loads()) return text;
  for (const auto& [kernels, names] : fit.layers) text += "    " + kernels + ": " + layers_text(names) + "\n";
  return text;
}

Json fit_json(const RuntimeFit& fit) {
  return {{"format", fit.format->name}, {"loads", fit.loads()},   {"note", fit.format->note},
          {"reasons", fit.reasons},     {"changes", fit.changes}, {"layers", fit.layers}};
}

const char* input_name(InputForm form) {
  switch (form) {
    case InputForm::kFloat:
      return "float";
    case InputForm::kToken:
      return "token";
    case InputForm::kTensor:
      return "tensor";
  }
  return "";
}

Json kernel_json(const RuntimeKernel& kernel) {
  Json inputs = Json::array();
  for (const InputForm form : kernel.inputs) inputs.push_back(input_name(form));
  return {{"name", kernel.name},
          {"bits", kernel.bits},
          {"zero_points", kernel.zeros},
          {"groups", kernel.any_group ? Json(nullptr) : Json(kernel.groups)},
          {"inputs", inputs},
          {"input_bits", kernel.input_bits},
          {"input_zero_points", kernel.input_zeros},
          {"multiples", {kernel.out_multiple, kernel.in_multiple}}};
}

Json format_json(const RuntimeFormat& format) {
  Json architectures = Json::array(), kernels = Json::array();
  for (const RuntimeArchitecture& row : format.architectures) {
    architectures.push_back({{"name", row.name},
                             {"evidence", row.was_run ? "run" : "read"},
                             {"in_float", row.in_float != nullptr ? Json(row.in_float) : Json(nullptr)}});
  }
  for (const RuntimeKernel& kernel : format.kernels) kernels.push_back(kernel_json(kernel));
  return {{"name", format.name},       {"architectures", architectures},
          {"refused", format.refused}, {"kernels", kernels},
          {"note", format.note},       {"experts", format.takes_experts}};
}

std::vector<std::string> texts(const std::vector<int>& numbers) {
  std::vector<std::string> all;
  for (const int number : numbers) all.push_back(std::to_string(number));
  return all;
}

// "Marlin (CUDA): 4, 8 bits; groups 32, 64, 128; inputs float".
std::string kernel_text(const RuntimeKernel& kernel) {
  std::string text = std::string(kernel.name) + ": " + join(texts(kernel.bits), ", ") + " bits";
  if (kernel.zeros) text += " with or without zero points";
  std::vector<std::string> groups;
  for (const int64_t group : kernel.groups) groups.push_back(std::to_string(group));
  text += kernel.any_group ? ", groups of any size" : "";
  if (!groups.empty()) text += ", groups of " + join(groups, ", ");
  std::vector<std::string> inputs;
  for (const InputForm form : kernel.inputs) inputs.emplace_back(input_name(form));
  if (!kernel.input_bits.empty())
    text += ", inputs of " + join(texts(kernel.input_bits), ", ") + " bits by " + join(inputs, " or ");
  if (kernel.in_multiple > 1 || kernel.out_multiple > 1) {
    text += ", multiples of [" + std::to_string(kernel.out_multiple) + ", " +
            std::to_string(kernel.in_multiple) + "]";
  }
  return text;
}

std::string format_text(const RuntimeFormat& format) {
  std::vector<std::string> run, read;
  for (const RuntimeArchitecture& row : format.architectures) {
    const bool limited = row.in_float != nullptr;
    (row.was_run ? run : read)
        .push_back(row.name + (limited ? std::string(" (without ") + row.in_float + ")" : std::string()));
  }
  std::string text = std::string("  ") + format.name + "\n";
  if (*format.note != '\0') text += std::string("      ") + format.note + "\n";
  if (format.architectures.empty()) text += "      of all architectures that the format holds\n";
  if (!run.empty()) text += "      run: " + join(run, ", ") + "\n";
  if (!read.empty()) text += "      read in its source: " + join(read, ", ") + "\n";
  for (const auto& [name, why] : format.refused) text += "      not " + name + ": " + why + "\n";
  for (const RuntimeKernel& kernel : format.kernels) text += "      " + kernel_text(kernel) + "\n";
  return text;
}

}  // namespace

bool RuntimeAnswer::loads() const {
  return std::any_of(fits.begin(), fits.end(), [](const RuntimeFit& fit) { return fit.loads(); });
}

std::vector<RuntimeAnswer> answers_of_run(const std::vector<std::string>& runtimes, const RunOptions& options,
                                          const Recipe& recipe) {
  std::vector<RuntimeAnswer> answers;
  for (const std::string& name : runtimes) answers.push_back({&find_runtime(name), {}});
  if (answers.empty()) return answers;
  const OpenModel planned = planned_output(options, recipe);
  for (RuntimeAnswer& answer : answers) answer.fits = fits(*answer.runtime, planned, recipe.method);
  return answers;
}

Json to_json(const std::vector<RuntimeAnswer>& answers) {
  Json json = Json::array();
  for (const RuntimeAnswer& answer : answers) {
    Json formats = Json::array();
    for (const RuntimeFit& fit : answer.fits) formats.push_back(fit_json(fit));
    json.push_back({{"name", answer.runtime->name},
                    {"version", answer.runtime->version},
                    {"date", answer.runtime->date},
                    {"loads", answer.loads()},
                    {"formats", formats}});
  }
  return json;
}

std::string answers_text(const std::vector<RuntimeAnswer>& answers) {
  std::string text;
  for (const RuntimeAnswer& answer : answers) {
    text += "for " + title(*answer.runtime) + "\n";
    for (const RuntimeFit& fit : answer.fits) text += fit_text(fit);
  }
  return text;
}

void expect_loaded(const std::vector<RuntimeAnswer>& answers) {
  for (const RuntimeAnswer& answer : answers) {
    if (answer.loads()) continue;
    std::string reasons;
    std::vector<std::string> changes;
    for (const RuntimeFit& fit : answer.fits) {
      for (const std::string& reason : fit.reasons)
        reasons += std::string("\n  ") + fit.format->name + ": " + reason;
      if (!fit.changes.empty())
        changes.push_back("for " + std::string(fit.format->name) + " " + join(fit.changes, "; or "));
    }
    changes.push_back("--format float, or gguf for llama.cpp, of an output without --for");
    throw Error(std::string("--for ") + answer.runtime->name,
                title(*answer.runtime) + " would not load what this run makes:" + reasons,
                join(changes, "; or "));
  }
}

Json runtimes_json() {
  Json json = Json::array();
  for (const RuntimeEntry& runtime : runtimes()) {
    Json formats = Json::array();
    for (const RuntimeFormat& format : runtime.formats) formats.push_back(format_json(format));
    json.push_back({{"name", runtime.name},
                    {"description", runtime.description},
                    {"version", runtime.version},
                    {"date", runtime.date},
                    {"formats", formats}});
  }
  return json;
}

std::string runtimes_text() {
  std::string text;
  for (const RuntimeEntry& runtime : runtimes()) {
    text += std::string(runtime.name) + " " + runtime.version + ", as of " + runtime.date + "  " +
            runtime.description + "\n";
    for (const RuntimeFormat& format : runtime.formats) text += format_text(format);
  }
  return text + "A scale for each row is taken everywhere. What is not listed is not known to load.\n";
}

}  // namespace ptq
