// An artifact with low-rank corrections in the form that the Python library peft loads: a LoRA adapter, and
// the rounded weights as a float model that it belongs to.
//
// The base is a Hugging Face directory: the source's configuration and tokenizer, and the values that the
// codes stand for as the option "dtype" (f32 keeps them exactly). The adapter is adapter_model.safetensors
// (BF16 or F16, as the corrections are stored; codes as F16), adapter_config.json, which names its base, and
// README.md, which says what belongs together. peft scales by lora_alpha / r, which is 1. A linear that peft
// refuses (Linear::fused_elsewhere) has its correction in the base's weight.
#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "export/rows.h"
#include "ptq/artifact/companions.h"
#include "ptq/artifact/safetensors_spool.h"
#include "ptq/base/error.h"
#include "ptq/base/file.h"
#include "ptq/base/interrupt.h"
#include "ptq/base/memory.h"
#include "ptq/base/output.h"

namespace ptq {
namespace {

// The modules that are corrected, and how many linears there are of each last part of a name.
struct Modules {
  std::set<std::string> corrected;
  std::set<std::string> folded;  // corrected in the base
  std::map<std::string, int64_t> linears;
  int64_t rank = 0;
};

std::string last_part(const std::string& name) {
  return name.substr(name.find_last_of('.') + 1);
}

Modules find_modules(const Model& model) {
  Modules modules;
  for (int64_t i = 0; i < model.num_blocks(); ++i) {
    const std::unique_ptr<Block> block = model.load_block(i);
    for (const Linear* linear : block->linears()) {
      ++modules.linears[last_part(linear->name)];
      if (!linear->correction) continue;
      if (linear->fused_elsewhere) {
        modules.folded.insert(linear->name);
        continue;
      }
      modules.corrected.insert(linear->name);
      modules.rank = std::max(modules.rank, linear->correction->rank());
    }
  }
  return modules;
}

// What the runtime of a LoRA adapter lacks, if a block needs it.
std::string why_not_block(Block& block) {
  const std::string hint = "an artifact of --method qera, which rounds weights only";
  for (const Site* site : block.sites()) {
    const std::string where = block.prefix() + ".sites." + site->name;
    if (site->quantizer.kind != ActivationQuantizer::Kind::kNone)
      return Error(where, "rounds activations, which peft cannot", hint).what();
    if (!site->transform.empty()) {
      const std::string transform = transform_text(site->transform);
      return Error(where, "has an online transform (" + transform + "), which peft cannot run", hint).what();
    }
  }
  return "";
}

std::string why_not_peft(const OpenModel& artifact, const ExportTarget&) {
  for (int64_t i = 0; i < artifact.model->num_blocks(); ++i) {
    const std::string reason = why_not_block(*artifact.model->load_block(i));
    if (!reason.empty()) return reason;
  }
  const Modules modules = find_modules(*artifact.model);
  const std::string path = artifact.checkpoint->path();
  if (!modules.corrected.empty()) return "";
  if (!modules.folded.empty()) {
    return Error(path,
                 "has corrections only where peft puts nothing (" + *modules.folded.begin() +
                     "): there is no adapter to write",
                 "quantize it with corrections of other layers too")
        .what();
  }
  return Error(path, "has no low-rank corrections, so there is no adapter to write",
               "quantize it with --method qera")
      .what();
}

// "q_proj" where every q_proj is corrected, else the full names.
Json target_modules(const Modules& modules) {
  std::map<std::string, int64_t> corrected;
  for (const std::string& name : modules.corrected) ++corrected[last_part(name)];
  std::set<std::string> targets;
  for (const std::string& name : modules.corrected) {
    const std::string part = last_part(name);
    targets.insert(corrected.at(part) == modules.linears.at(part) ? part : name);
  }
  return targets;
}

Json adapter_config(const Modules& modules, const std::string& base_name) {
  return {{"peft_type", "LORA"},
          {"task_type", "CAUSAL_LM"},
          {"base_model_name_or_path", base_name},
          {"r", modules.rank},
          {"lora_alpha", modules.rank},
          {"lora_dropout", 0.0},
          {"bias", "none"},
          {"fan_in_fan_out", false},
          {"use_rslora", false},
          {"use_dora", false},
          {"target_modules", target_modules(modules)},
          {"inference_mode", true}};
}

void add_correction(const Linear& linear, int64_t rank, SafetensorsSpool& adapter) {
  const LowRank& correction = *linear.correction;
  const int64_t missing = rank - correction.rank();
  // Codes of 8 bits have scales of their own: as F16 they are close to what they stand for.
  const at::ScalarType stored = correction.stored == at::kChar ? at::kHalf : correction.stored;
  const std::string name = "base_model.model." + linear.name;
  for (const Tensor& factor : {correction.A, correction.B}) {
    if (stored == at::kHalf && !at::isfinite(factor.to(stored)).all().item<bool>())
      throw Error(linear.name, "has a correction past 65504, which the adapter's float16 does not hold",
                  "quantize with qera.stored=bf16");
  }
  adapter.add(name + ".lora_A.weight", at::constant_pad_nd(correction.A, {0, 0, 0, missing}).to(stored));
  adapter.add(name + ".lora_B.weight", at::constant_pad_nd(correction.B, {0, missing}).to(stored));
}

// The values that a weight's codes stand for, with the correction beside it if there is one.
Tensor float_values(const Weight& weight, at::ScalarType dtype, const LowRank* correction = nullptr) {
  const Tensor exact = correction == nullptr ? weight.values() : weight.values() + correction->product();
  const Tensor values = exact.to(dtype);
  if (dtype != at::kHalf || at::isfinite(values).all().item<bool>()) return values;
  throw Error(weight.name, "has values past 65504, which float16 does not hold", "--dtype bf16 or f32");
}

// The corrections that are folded into the weights of a block, by the weight's name.
std::map<std::string, const LowRank*> folded_corrections(Block& block) {
  std::map<std::string, const LowRank*> folded;
  for (const Linear* linear : block.linears()) {
    if (linear->correction && linear->fused_elsewhere) folded[linear->weight.name] = &*linear->correction;
  }
  return folded;
}

// For people, and for the library's model card.
std::string readme(const Modules& modules, const std::string& base_name) {
  std::string text =
      "---\nlibrary_name: peft\nbase_model: " + base_name +
      "\n---\n\nThis LoRA adapter is the low-rank correction of the quantized model whose rounded weights "
      "are the base `" +
      base_name + "`. It belongs to no other base.\n";
  if (modules.folded.empty()) return text;
  text +=
      "\nThe corrections of these layers are part of the base's weights, because PEFT puts nothing beside "
      "modules that are read past their layer in a fused kernel:\n\n";
  for (const std::string& name : modules.folded) text += "- `" + name + "`\n";
  return text;
}

// The base's weights and the adapter's, a block at a time.
void add_tensors(const OpenModel& artifact, int64_t rank, at::ScalarType dtype, SafetensorsSpool& base,
                 SafetensorsSpool& adapter) {
  Model& model = *artifact.model;
  for (int64_t i = 0; i < model.num_blocks(); ++i) {
    throw_if_interrupted();
    const std::unique_ptr<Block> block = model.load_block(i);
    const std::map<std::string, const LowRank*> folded = folded_corrections(*block);
    for (const Weight* weight : block->weights()) {
      const auto correction = folded.find(weight->name);
      base.add(weight->name,
               float_values(*weight, dtype, correction == folded.end() ? nullptr : correction->second));
    }
    for (const Linear* linear : block->linears()) {
      if (linear->correction && !linear->fused_elsewhere) add_correction(*linear, rank, adapter);
    }
    return_free_memory();
  }
  for (const Weight* weight : model.outer_weights()) base.add(weight->name, float_values(*weight, dtype));
}

Json base_config(const Model& model, at::ScalarType dtype) {
  Json config = model.config();
  config.erase("quantization_config");
  const char* dtype_text = dtype == at::kFloat ? "float32" : dtype == at::kHalf ? "float16" : "bfloat16";
  config["torch_dtype"] = dtype_text;
  if (config.contains("dtype")) config["dtype"] = dtype_text;
  return config;
}

ExportResult result_of(const Modules& modules, const std::string& adapter, const std::string& base) {
  const auto count = static_cast<int64_t>(modules.corrected.size());
  std::string text = adapter + ": a LoRA adapter of rank " + std::to_string(modules.rank) + " for " +
                     std::to_string(count) + " modules\n" + base +
                     ": the rounded weights as a float model, its base\n";
  if (!modules.folded.empty()) {
    const size_t more = modules.folded.size() - 1;
    text +=
        "folded into the base, because peft puts nothing beside these modules: " + *modules.folded.begin() +
        (more > 0 ? " and " + std::to_string(more) + " more" : "") + "\n";
  }
  const Json json = {{"adapter", adapter},
                     {"base", base},
                     {"rank", modules.rank},
                     {"modules", count},
                     {"folded", modules.folded}};
  return {json, text};
}

// Memory: a block at a time.
ExportResult write_peft(const OpenModel& artifact, const ExportTarget& target) {
  const std::string base_path = std::filesystem::path(target.output).lexically_normal().string() + "-base";
  expect_absent(base_path);
  const std::string base_name = last_name(base_path);
  const std::string& option = target.options.at("dtype");
  const at::ScalarType dtype = option == "f32" ? at::kFloat : option == "f16" ? at::kHalf : at::kBFloat16;
  const Modules modules = find_modules(*artifact.model);
  OutputDirectory adapter(target.output, /*force=*/false), base(base_path, /*force=*/false);
  auto base_tensors = SafetensorsSpool::within(base, SafetensorsSpool::kUsualShard);
  auto adapter_tensors = SafetensorsSpool::within(adapter, SafetensorsSpool::kOneFile);
  add_tensors(artifact, modules.rank, dtype, base_tensors, adapter_tensors);
  base_tensors.write(base);
  write_file(base.path("config.json"), python_json_text(base_config(*artifact.model, dtype), 1) + "\n");
  std::vector<std::string> warnings;  // an output holds no links, and nothing that is too large
  copy_companions(companion_files(artifact.checkpoint->directory(), "", warnings), base);
  adapter_tensors.write(adapter, "adapter_model");
  write_file(adapter.path("adapter_config.json"), adapter_config(modules, base_name).dump(2) + "\n");
  write_file(adapter.path("README.md"), readme(modules, base_name));
  for (OutputDirectory* output : {&base, &adapter}) write_checksums(*output);
  base.commit();
  adapter.commit();
  return result_of(modules, target.output, base_path);
}

}  // namespace

FormatEntry peft_format() {
  FormatEntry entry{};
  entry.name = "peft";
  entry.description = "a LoRA adapter, and the rounded weights as its float base";
  entry.output = "directory of the adapter; the base goes beside it, as DIR-base";
  entry.suffix = "-peft";
  entry.options = {{"dtype",
                    "DTYPE",
                    "of the base: f32 (default, exact), f16, bf16",
                    "a dtype of a base",
                    {"f32", "f16", "bf16"}}};
  entry.why_not = why_not_peft;
  entry.write = write_peft;
  entry.why_not_opened = "an adapter alone is no model; its base is one, without the corrections";
  return entry;
}

}  // namespace ptq
