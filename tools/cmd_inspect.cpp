// quantize inspect PATH: what is in a checkpoint, float, ours, or in a format that says its own types.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "commands.h"
#include "ptq/artifact/open_model.h"
#include "ptq/base/error.h"
#include "ptq/base/interrupt.h"
#include "ptq/export/formats.h"
#include "ptq/report/report.h"

namespace ptq {
namespace {

struct TensorScan {
  int64_t bad = 0;     // NaN or infinite values
  double abs_max = 0;  // of the finite ones
};

TensorScan scan(const Checkpoint& checkpoint, const TensorInfo& info) {
  throw_if_interrupted();
  TensorScan result;
  if (info.num_elements() == 0) return result;
  const Tensor values = as_tensor(checkpoint.read(info.name)).to(at::kFloat);
  const Tensor finite = at::isfinite(values);
  result.bad = values.numel() - finite.sum().item<int64_t>();
  result.abs_max = at::where(finite, values.abs(), at::zeros({})).max().item<double>();
  checkpoint.drop(info.name);
  return result;
}

bool can_be_scanned(const TensorInfo& info) {
  return info.dtype == DType::kF32 || info.dtype == DType::kF16 || info.dtype == DType::kBF16 ||
         info.dtype == DType::kF64;
}

// Why the checkpoint would not be run, if it would not.
void add_refusal(const ArchitectureEntry& architecture, const WeightSource& source,
                 std::vector<std::string>& notes) {
  try {
    expect_all_read(architecture, source, "as a model");
  } catch (const Error& error) {
    notes.emplace_back(error.what());
  }
}

// What is looked at.
struct Subject {
  const Checkpoint& checkpoint;
  const WeightSource& source;
  bool quantized;
  const FormatEntry* format;  // whose types its tensors have; null: their dtypes
};

Json inspect_json(const std::string& path, const Subject& subject, bool scan_values) {
  const auto& [checkpoint, from, quantized, format] = subject;
  const WeightSource* source = &from;
  Json tensors = Json::array();
  int64_t bytes = 0, parameters = 0, bad_values = 0;
  for (const std::string& name : source->names()) parameters += source->find(name)->num_elements();
  for (const TensorInfo& info : checkpoint.tensors()) {
    Json entry = {{"name", info.name},
                  {"dtype", format == nullptr || format->stored_type == nullptr
                                ? dtype_name(info.dtype)
                                : format->stored_type(checkpoint, info.name)},
                  {"shape", info.shape},
                  {"bytes", info.bytes()}};
    if (scan_values && can_be_scanned(info)) {
      const TensorScan result = scan(checkpoint, info);
      entry["abs_max"] = result.abs_max;
      entry["not_finite"] = result.bad;
      bad_values += result.bad;
    }
    bytes += info.bytes();
    tensors.push_back(entry);
  }
  for (const auto& group : checkpoint.ties()) {  // tied tensors are stored, and counted, once
    for (size_t i = 1; i < group.size(); ++i) {
      bytes -= checkpoint.find(group[i])->bytes();
      parameters -= checkpoint.find(group[i])->num_elements();
    }
  }
  const ArchitectureEntry* architecture = match_architecture(*source);
  const std::vector<std::string> declared = declared_architectures(checkpoint.config());
  std::vector<std::string> notes = checkpoint.notes();
  if (architecture != nullptr && !quantized) add_refusal(*architecture, *source, notes);
  return {{"path", path},
          {"kind", quantized ? "quantized" : "float"},
          {"architecture", architecture == nullptr ? Json(nullptr) : Json(architecture->name)},
          {"declared_architecture", declared.empty() ? "" : declared.front()},
          {"parameters", parameters},
          {"bytes", bytes},
          {"bits_per_weight",
           parameters > 0 ? 8.0 * static_cast<double>(bytes) / static_cast<double>(parameters) : 0.0},
          {"not_finite", scan_values ? Json(bad_values) : Json(nullptr)},
          {"ties", checkpoint.ties()},
          {"notes", notes},
          {"tensors", tensors}};
}

// What another program's format holds is opened as it runs; all else may be any tensors.
Json look_at(const InspectOptions& options, const CheckpointOptions& checkpoint_options) {
  if (const FormatEntry* format = find_foreign_format(options.model)) {
    const OpenModel open = format->open(options.model, checkpoint_options, at::kMeta);
    return inspect_json(options.model, {*open.checkpoint, *open.source, open.quantized, format},
                        options.scan);
  }
  const std::unique_ptr<Checkpoint> checkpoint = open_checkpoint(options.model, checkpoint_options);
  const std::unique_ptr<WeightSource> source = make_source(*checkpoint, at::kCPU);
  return inspect_json(options.model, {*checkpoint, *source, is_artifact(*checkpoint), nullptr}, options.scan);
}

std::string inspect_text(const Json& json) {
  std::vector<std::vector<std::string>> rows;
  for (const Json& entry : json["tensors"]) {
    const bool scanned = entry.contains("abs_max");
    const int64_t bad = scanned ? entry["not_finite"].get<int64_t>() : 0;
    rows.push_back({entry["name"].get<std::string>(), entry["dtype"].get<std::string>(),
                    entry["shape"].dump(), format_bytes(entry["bytes"].get<int64_t>()),
                    scanned ? format_number(entry["abs_max"].get<double>(), 4) : "",
                    bad == 0 ? "" : fmt::format("{} not finite", bad)});
  }
  std::string text = text_table({"tensor", "dtype", "shape", "bytes", "max |x|", ""}, rows);
  for (const Json& group : json["ties"]) {
    text += fmt::format("tied: {}\n", fmt::join(group.get<std::vector<std::string>>(), " "));
  }
  for (const Json& note : json["notes"]) text += fmt::format("note: {}\n", note.get<std::string>());
  const std::string architecture = json["architecture"].is_null()
                                       ? fmt::format("not one this program quantizes ({})",
                                                     json["declared_architecture"].get<std::string>())
                                       : json["architecture"].get<std::string>();
  text += fmt::format("{}: {}, architecture {}, {} parameters, {}, {:.2f} bits a weight",
                      json["path"].get<std::string>(), json["kind"].get<std::string>(), architecture,
                      json["parameters"].get<int64_t>(), format_bytes(json["bytes"].get<int64_t>()),
                      json["bits_per_weight"].get<double>());
  if (json["not_finite"].is_number()) {
    const auto bad = json["not_finite"].get<int64_t>();
    text += bad == 0 ? ", no NaN or infinity" : fmt::format(", {} values are NaN or infinite", bad);
  }
  return text + "\n";
}

}  // namespace

void inspect_command(const InspectOptions& options, const CommonOptions& common) {
  CheckpointOptions checkpoint_options = common.checkpoint;
  checkpoint_options.whole_model = false;
  const Json json = look_at(options, checkpoint_options);
  print(common.json ? json.dump(1) + "\n" : inspect_text(json));
}

}  // namespace ptq
