// An artifact with low-rank corrections in the form that the Python library peft loads: a LoRA adapter, and
// the rounded weights as a float model that it belongs to.
//
// The base is a Hugging Face directory: the source's configuration and tokenizer, and the values that the
// codes stand for as the option "dtype" (f32 keeps them exactly). A linear that peft refuses
// (Linear::fused_elsewhere) has its correction in the base's weight.
#include <algorithm>
#include <filesystem>
#include <map>

#include "export/lora_adapter.h"
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
  const CorrectedModules modules = find_corrected(*artifact.model);
  const std::string path = artifact.checkpoint->path();
  if (!modules.beside.empty()) return "";
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

// The base's weights and the adapter's, a block at a time.
void add_tensors(const OpenModel& artifact, at::ScalarType dtype, SafetensorsSpool& base,
                 LoraAdapter& adapter) {
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
      if (linear->correction && !linear->fused_elsewhere) adapter.add(*linear);
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

ExportResult result_of(const CorrectedModules& modules, const std::string& adapter, const std::string& base) {
  const auto count = static_cast<int64_t>(modules.beside.size());
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
  const std::string& option = target.options.at("dtype");
  const at::ScalarType dtype = option == "f32" ? at::kFloat : option == "f16" ? at::kHalf : at::kBFloat16;
  const CorrectedModules modules = find_corrected(*artifact.model);
  LoraAdapter adapter(target.output, modules, last_name(base_path));
  OutputDirectory base(base_path, /*force=*/false);
  auto base_tensors = SafetensorsSpool::within(base, SafetensorsSpool::kUsualShard);
  add_tensors(artifact, dtype, base_tensors, adapter);
  base_tensors.write(base);
  write_file(base.path("config.json"), python_json_text(base_config(*artifact.model, dtype), 1) + "\n");
  std::vector<std::string> warnings;  // an output holds no links, and nothing that is too large
  copy_companions(companion_files(artifact.checkpoint->directory(), "", warnings), base);
  adapter.write();
  write_checksums(base);
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
