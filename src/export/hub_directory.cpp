#include "export/hub_directory.h"

#include <filesystem>

#include "export/rows.h"
#include "ptq/artifact/companions.h"
#include "ptq/base/error.h"
#include "ptq/base/file.h"
#include "ptq/base/interrupt.h"
#include "ptq/base/memory.h"
#include "ptq/base/output.h"
#include "ptq/model/published_names.h"

namespace ptq {
namespace {

class Writer {
 public:
  Writer(const HubForm& form, at::ScalarType dtype, SafetensorsSpool& spool)
      : form_(form), dtype_(dtype), spool_(spool) {}

  void add(Block& block);
  // What is no linear, or stays in float.
  void add(const Weight& weight, const Tensor& values);
  std::vector<std::string> in_float;

 private:
  at::ScalarType dtype_of(const Weight& weight, const Tensor& values) const;

  const HubForm& form_;
  at::ScalarType dtype_;  // of the model
  SafetensorsSpool& spool_;
};

at::ScalarType Writer::dtype_of(const Weight& weight, const Tensor& values) const {
  if (form_.floats) return *form_.floats;
  if (weight.quantized() == nullptr) return weight.stored;
  // Small tensors of a scan keep every digit.
  const Role role = weight.role;
  const bool large = role == Role::kLinear || role == Role::kEmbedding || role == Role::kHead;
  return large && at::isfinite(values.to(dtype_)).all().item<bool>() ? dtype_ : at::kFloat;
}

void Writer::add(const Weight& weight, const Tensor& values) {
  if (weight.quantized() != nullptr) in_float.push_back(weight.name);
  const at::ScalarType dtype = dtype_of(weight, values);
  const Tensor stored = values.to(dtype);
  if (dtype == at::kHalf && !at::isfinite(stored).all().item<bool>())
    throw Error(weight.name, "has values past 65504, which float16 does not hold", "floats of bf16 or f32");
  spool_.add(published_name(weight.name), stored);
}

void Writer::add(Block& block) {
  std::map<std::string, const Linear*> linears;  // by the name of the weight
  for (const Linear* linear : block.linears()) linears[linear->weight.name] = linear;
  for (const Weight* weight : block.weights()) {
    const auto found = linears.find(weight->name);
    const bool is_linear = found != linears.end();
    if (is_linear && form_.add_codes && form_.add_codes(block, *found->second, spool_)) continue;
    const bool has_other = is_linear && form_.values;
    add(*weight, has_other ? form_.values(block, *found->second) : weight->values());
  }
}

Json config_of(const Model& model, const HubForm& form, at::ScalarType dtype) {
  Json config = model.config();
  config.erase("quantization_config");
  const char* text = dtype_text(form.floats.value_or(dtype));
  const bool has_dtype = config.contains("dtype");
  if (form.floats && has_dtype) config["dtype"] = text;
  if (form.floats || (!has_dtype && !config.contains("torch_dtype"))) config["torch_dtype"] = text;
  if (!form.quantization_config.is_null()) config["quantization_config"] = form.quantization_config;
  return config;
}

}  // namespace

at::ScalarType model_dtype(Model& model) {
  for (const char* key : {"torch_dtype", "dtype"}) {
    const Json name = model.config().value(key, Json());
    if (name == "float16") return at::kHalf;
    if (name == "bfloat16") return at::kBFloat16;
    if (name == "float32") return at::kFloat;
  }
  const Weight& embedding = *model.outer_weights().front();
  return embedding.quantized() != nullptr ? at::kFloat : embedding.stored;
}

const char* dtype_text(at::ScalarType dtype) {
  return dtype == at::kHalf ? "float16" : dtype == at::kBFloat16 ? "bfloat16" : "float32";
}

std::optional<at::ScalarType> dtype_of_option(const std::string& value) {
  if (value == "f32") return at::kFloat;
  if (value == "f16") return at::kHalf;
  if (value == "bf16") return at::kBFloat16;
  return {};
}

std::vector<std::string> write_hub_directory(const OpenModel& artifact, const std::string& path,
                                             const HubForm& form) {
  Model& model = *artifact.model;
  OutputDirectory output(path, /*force=*/false);
  std::optional<LoraAdapter> adapter;
  if (!form.adapter.empty()) {
    expect_absent(form.adapter);
    adapter.emplace(form.adapter, form.corrected, last_name(path));
  }
  auto spool = SafetensorsSpool::within(output, SafetensorsSpool::kUsualShard);
  const at::ScalarType dtype = model_dtype(model);
  Writer writer(form, dtype, spool);
  for (int64_t i = 0; i < model.num_blocks(); ++i) {
    throw_if_interrupted();
    const std::unique_ptr<Block> block = model.load_block(i);
    writer.add(*block);
    for (const Linear* linear : block->linears()) {
      if (adapter && form.corrected.beside.contains(linear->name)) adapter->add(*linear);
    }
    return_free_memory();
  }
  for (const Weight* weight : model.outer_weights()) writer.add(*weight, weight->values());
  spool.write(output);
  write_file(output.path("config.json"), python_json_text(config_of(model, form, dtype), 1) + "\n");
  if (artifact.tokenizer) {  // what lies beside the file need not belong to it
    const std::string tokenizer = artifact.tokenizer();
    if (!tokenizer.empty()) write_file(output.path("tokenizer.json"), tokenizer);
  } else {
    std::vector<std::string> warnings;  // an output holds no links, and nothing that is too large
    copy_companions(companion_files(artifact.checkpoint->directory(), "", warnings), output);
  }
  write_checksums(output);
  if (adapter) adapter->write();
  output.commit();
  if (adapter) adapter->commit();
  return writer.in_float;
}

std::string adapter_path(const CorrectedModules& corrected, const std::string& output) {
  if (corrected.beside.empty()) return "";
  return std::filesystem::path(output).lexically_normal().string() + "-adapter";
}

std::string adapter_text(const CorrectedModules& corrected, const std::string& output) {
  if (corrected.beside.empty()) return "";
  return adapter_path(corrected, output) + ": a LoRA adapter with the corrections of " +
         count_text(static_cast<int64_t>(corrected.beside.size()), "layer") + ", which belongs to it\n";
}

std::string in_float_text(const std::vector<std::string>& names, const std::string& format) {
  if (names.empty()) return "";
  const std::string more = names.size() > 1 ? " and " + std::to_string(names.size() - 1) + " more" : "";
  return "  in float, because " + format + " holds no codes of them: " + names.front() + more + "\n";
}

ExportResult write_weights(const OpenModel& artifact, const std::string& output, const WeightsPlan& plan,
                           const char* format, const Json& quantization_config,
                           const std::function<void(const Linear&, SafetensorsSpool&)>& add_codes) {
  int64_t layers = 0;
  HubForm form;
  form.add_codes = [&](Block&, const Linear& linear, SafetensorsSpool& spool) {
    const bool in_codes = plan.linears.at(linear.name);
    if (in_codes) add_codes(linear, spool);
    layers += in_codes ? 1 : 0;
    return in_codes;
  };
  form.quantization_config = quantization_config;
  form.corrected = plan.corrected;
  form.adapter = adapter_path(plan.corrected, output);
  const std::vector<std::string> in_float = write_hub_directory(artifact, output, form);
  const bool groups = plan.scheme.granularity == Granularity::kGroup;
  const std::string text = output + ": " + format + ", " + count_text(layers, "layer") + " of " +
                           std::to_string(plan.scheme.bits) + " bits" +
                           (groups ? " in groups of " + std::to_string(plan.scheme.group) : "") + "\n" +
                           in_float_text(in_float, format) + adapter_text(plan.corrected, output);
  return {{{"output", output},
           {"adapter", form.adapter.empty() ? Json(nullptr) : Json(form.adapter)},
           {"layers", layers},
           {"in_float", in_float}},
          text};
}

}  // namespace ptq
