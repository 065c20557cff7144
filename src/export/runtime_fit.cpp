// Whether what a format makes of a model is what a runtime loads: the table asked for each linear.
#include <algorithm>
#include <set>

#include "export/rows.h"
#include "ptq/base/join.h"
#include "ptq/base/pattern.h"
#include "ptq/export/runtimes.h"
#include "ptq/method/recipe.h"

namespace ptq {
namespace {

constexpr size_t kNamesShown = 3;

// How far a linear gets with a kernel.
enum class Stage { kBits, kZeros, kGroup, kShape, kFits };

InputForm input_form(const StoredLinear& linear) {
  if (!linear.inputs) return InputForm::kFloat;
  return linear.inputs->per_token ? InputForm::kToken : InputForm::kTensor;
}

template <typename T>
bool has(const std::vector<T>& all, const std::type_identity_t<T>& one) {
  return std::find(all.begin(), all.end(), one) != all.end();
}

Stage stage_of(const StoredLinear& linear, const RuntimeKernel& kernel) {
  const WeightScheme& weights = *linear.weights;
  const bool takes_inputs = !linear.inputs || (has(kernel.input_bits, linear.inputs->bits) &&
                                               (linear.inputs->symmetric || kernel.input_zeros));
  if (!has(kernel.bits, weights.bits) || !has(kernel.inputs, input_form(linear)) || !takes_inputs)
    return Stage::kBits;
  if (!weights.symmetric && !kernel.zeros) return Stage::kZeros;
  const bool in_groups = weights.granularity == Granularity::kGroup;
  if (in_groups && !kernel.any_group && !has(kernel.groups, weights.group)) return Stage::kGroup;
  const bool fits = linear.shape[0] % kernel.out_multiple == 0 && linear.shape[1] % kernel.in_multiple == 0;
  return fits ? Stage::kFits : Stage::kShape;
}

// Each once, in their order.
void add_once(const std::string& text, std::vector<std::string>& all) {
  if (!has(all, text)) all.push_back(text);
}

// "w4a16".
std::string bits_text(int weights, int inputs) {
  return "w" + std::to_string(weights) + "a" + std::to_string(inputs);
}

// The forms of --bits that kernels take.
std::string known_bits(const std::vector<RuntimeKernel>& kernels) {
  std::vector<std::string> known;
  for (const RuntimeKernel& kernel : kernels) {
    const bool of_floats = has(kernel.inputs, InputForm::kFloat);
    const std::vector<int> inputs = of_floats ? std::vector<int>{16} : kernel.input_bits;
    for (const int bits : kernel.bits) {
      for (const int input_bits : inputs) add_once(bits_text(bits, input_bits), known);
    }
  }
  return join(known, ", ");
}

// "--set gptq.group=128": of the first of those options that the method has.
std::string option_text(const std::string& method, const std::vector<const char*>& options,
                        const std::string& value) {
  for (const MethodEntry& entry : methods()) {
    if (entry.name != method) continue;
    const Json all = entry.default_options();
    for (const char* option : options) {
      if (all.contains(option)) return "--set " + method + "." + option + "=" + value;
    }
  }
  return "--method gptq --set gptq." + std::string(options.front()) + "=" + value;
}

// What is wrong with linears, and which they are.
struct Mismatch {
  std::string reason, change;
};

Mismatch mismatch_of(const StoredLinear& linear, const std::vector<RuntimeKernel>& kernels, Stage stage,
                     const std::string& method) {
  const WeightScheme& weights = *linear.weights;
  const std::string bits = bits_text(weights.bits, linear.inputs ? linear.inputs->bits : 16);
  const bool zeros_of_inputs = linear.inputs && !linear.inputs->symmetric;
  switch (stage) {
    case Stage::kBits:
      return {bits + (zeros_of_inputs ? " with zero points of inputs" : "") + " is not computed",
              "--bits " + known_bits(kernels)};
    case Stage::kZeros:
      return {"zero points of weights are not computed at " + bits,
              option_text(method, {"symmetric", "symmetric_weights"}, "true")};
    case Stage::kGroup: {
      std::set<int64_t> groups;
      for (const RuntimeKernel& kernel : kernels) {
        if (stage_of(linear, kernel) == Stage::kGroup)
          groups.insert(kernel.groups.begin(), kernel.groups.end());
      }
      std::vector<std::string> known;
      for (const int64_t group : groups) known.push_back(std::to_string(group));
      const std::string one_a_row = known.empty() ? "" : " or groups of " + join(known, ", ");
      return {"groups of " + std::to_string(weights.group) + " are not computed at " + bits +
                  ": a scale a row" + one_a_row + " are",
              option_text(method, {"group"}, known.empty() ? "0" : known.back())};
    }
    case Stage::kShape: {
      std::vector<std::string> known;
      for (const RuntimeKernel& kernel : kernels) {
        if (stage_of(linear, kernel) != Stage::kShape) continue;
        add_once("multiples of [" + std::to_string(kernel.out_multiple) + ", " +
                     std::to_string(kernel.in_multiple) + "]",
                 known);
      }
      return {"the shape [" + std::to_string(linear.shape[0]) + ", " + std::to_string(linear.shape[1]) +
                  "] is not computed at " + bits + ": " + join(known, " or ") + " are",
              "--skip " + linear.name};
    }
    case Stage::kFits:
      break;
  }
  return {};
}

// "model.layers.0.q_proj and 23 others".
std::string names_text(const std::vector<std::string>& names) {
  const std::vector<std::string> shown(
      names.begin(), names.begin() + static_cast<std::ptrdiff_t>(std::min(names.size(), kNamesShown)));
  const size_t left = names.size() - shown.size();
  return join(shown, ", ") + (left > 0 ? " and " + std::to_string(left) + " more" : "");
}

// Of every linear in codes: the kernels that take it, or why none does.
void fit_linears(const StoredForm& form, const RuntimeFormat& format, const std::string& method,
                 RuntimeFit& fit) {
  std::map<std::string, std::vector<std::string>> wrong;  // reason -> names
  for (const StoredLinear& linear : form.linears) {
    if (!linear.weights) continue;
    std::vector<std::string> names;
    Stage best = Stage::kBits;
    for (const RuntimeKernel& kernel : format.kernels) {
      const Stage stage = stage_of(linear, kernel);
      best = std::max(best, stage);
      if (stage == Stage::kFits) add_once(kernel.name, names);
    }
    if (format.kernels.empty()) names = {linear.type};
    if (!names.empty()) {
      fit.layers[join(names, ", ")].push_back(linear.name);
      continue;
    }
    const Mismatch mismatch = mismatch_of(linear, format.kernels, best, method);
    wrong[mismatch.reason].push_back(linear.name);
    add_once(mismatch.change, fit.changes);
  }
  for (const auto& [reason, names] : wrong) fit.reasons.push_back(names_text(names) + ": " + reason);
}

// What the row says of the architecture, and of linears by their place in it.
void fit_architecture(const StoredForm& form, const RuntimeEntry& runtime, const RuntimeFormat& format,
                      const RuntimeArchitecture* row, RuntimeFit& fit) {
  std::vector<std::string> experts, in_codes;
  for (const StoredLinear& linear : form.linears) {
    if (!linear.weights) continue;
    if (linear.is_expert && !format.takes_experts) experts.push_back(linear.name);
    const char* pattern = row != nullptr ? row->in_float : nullptr;
    if (pattern != nullptr && matches_pattern(pattern, linear.name)) in_codes.push_back(linear.name);
  }
  if (!experts.empty()) {
    fit.reasons.push_back(names_text(experts) + ": codes of experts are not known to load in " +
                          runtime.name + " " + runtime.version);
    add_once("--skip '*.experts.*'", fit.changes);
  }
  if (!in_codes.empty()) {
    fit.reasons.push_back(names_text(in_codes) + ": " + runtime.name + " takes these layers in float only");
    add_once(std::string("--skip '") + row->in_float + "'", fit.changes);
  }
}

// "REASON\n  try: CHANGE", as Errors say it.
void add_error(const std::string& message, RuntimeFit& fit) {
  const std::string between = "\n  try: ";
  const size_t at = message.find(between);
  fit.reasons.push_back(message.substr(0, at));
  if (at != std::string::npos) fit.changes.push_back(message.substr(at + between.size()));
}

RuntimeFit fit_of(const RuntimeEntry& runtime, const RuntimeFormat& format, const OpenModel& artifact,
                  const std::string& method) {
  RuntimeFit fit;
  fit.format = &format;
  const std::string architecture = artifact.architecture->name;
  if (const auto found = format.refused.find(architecture); found != format.refused.end()) {
    fit.reasons.push_back(std::string("of ") + architecture + ": " + found->second);
    return fit;
  }
  const auto row = std::find_if(format.architectures.begin(), format.architectures.end(),
                                [&](const RuntimeArchitecture& a) { return a.name == architecture; });
  if (row == format.architectures.end() && !format.architectures.empty()) {
    fit.reasons.push_back(std::string("of ") + architecture + " it is not known whether " + runtime.name +
                          " " + runtime.version + " loads it in codes");
    return fit;
  }
  const FormatEntry& entry = find_format(format.name);
  const std::string reason = entry.why_not(artifact, {"", export_options(entry, {})});
  if (!reason.empty()) {
    add_error(reason, fit);
    return fit;
  }
  const StoredForm form = entry.stored(artifact);
  fit_architecture(form, runtime, format, row == format.architectures.end() ? nullptr : &*row, fit);
  fit_linears(form, format, method, fit);
  std::vector<std::pair<WeightScheme, std::optional<ActivationScheme>>> schemes;
  for (const StoredLinear& linear : form.linears) {
    if (linear.weights && !has(schemes, {*linear.weights, linear.inputs}))
      schemes.emplace_back(*linear.weights, linear.inputs);
  }
  if (form.dequantize && format.one_scheme_dequantized && schemes.size() > 1) {
    fit.reasons.push_back("it dequantizes what it loads by one scheme, and the layers have " +
                          std::to_string(schemes.size()));
    fit.changes.push_back("the same bits and groups for all layers");
  }
  return fit;
}

}  // namespace

std::vector<RuntimeFit> fits(const RuntimeEntry& runtime, const OpenModel& artifact,
                             const std::string& method) {
  std::vector<RuntimeFit> all;
  for (const RuntimeFormat& format : runtime.formats)
    all.push_back(fit_of(runtime, format, artifact, method));
  return all;
}

}  // namespace ptq
