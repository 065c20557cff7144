#include "export/lora_adapter.h"

#include <algorithm>

#include "ptq/base/error.h"
#include "ptq/base/file.h"

namespace ptq {
namespace {

std::string last_part(const std::string& name) {
  return name.substr(name.find_last_of('.') + 1);
}

// "q_proj" where every q_proj is corrected, else the full names.
Json target_modules(const CorrectedModules& modules) {
  std::map<std::string, int64_t> corrected;
  for (const std::string& name : modules.beside) ++corrected[last_part(name)];
  std::set<std::string> targets;
  for (const std::string& name : modules.beside) {
    const std::string part = last_part(name);
    targets.insert(corrected.at(part) == modules.linears.at(part) ? part : name);
  }
  return targets;
}

}  // namespace

CorrectedModules find_corrected(const Model& model) {
  CorrectedModules modules;
  for (int64_t i = 0; i < model.num_blocks(); ++i) {
    const std::unique_ptr<Block> block = model.load_block(i);
    for (const Linear* linear : block->linears()) {
      ++modules.linears[last_part(linear->name)];
      if (!linear->correction) continue;
      if (linear->fused_elsewhere) {
        modules.folded.insert(linear->name);
        continue;
      }
      modules.beside.insert(linear->name);
      modules.rank = std::max(modules.rank, linear->correction->rank());
    }
  }
  return modules;
}

LoraAdapter::LoraAdapter(const std::string& path, const CorrectedModules& modules, std::string base_name)
    : modules_(modules),
      base_name_(std::move(base_name)),
      output_(path, /*force=*/false),
      tensors_(SafetensorsSpool::within(output_, SafetensorsSpool::kOneFile)) {}

void LoraAdapter::add(const Linear& linear) {
  const LowRank& correction = *linear.correction;
  const int64_t missing = modules_.rank - correction.rank();
  // Codes of 8 bits have scales of their own: as F16 they are close to what they stand for.
  const at::ScalarType stored = correction.stored == at::kChar ? at::kHalf : correction.stored;
  const std::string name = "base_model.model." + linear.name;
  for (const Tensor& factor : {correction.A, correction.B}) {
    if (stored == at::kHalf && !at::isfinite(factor.to(stored)).all().item<bool>())
      throw Error(linear.name, "has a correction past 65504, which the adapter's float16 does not hold",
                  "quantize with qera.stored=bf16");
  }
  tensors_.add(name + ".lora_A.weight", at::constant_pad_nd(correction.A, {0, 0, 0, missing}).to(stored));
  tensors_.add(name + ".lora_B.weight", at::constant_pad_nd(correction.B, {0, missing}).to(stored));
}

Json LoraAdapter::config() const {
  return {{"peft_type", "LORA"},
          {"task_type", "CAUSAL_LM"},
          {"base_model_name_or_path", base_name_},
          {"r", modules_.rank},
          {"lora_alpha", modules_.rank},
          {"lora_dropout", 0.0},
          {"bias", "none"},
          {"fan_in_fan_out", false},
          {"use_rslora", false},
          {"use_dora", false},
          {"target_modules", target_modules(modules_)},
          {"inference_mode", true}};
}

// For people, and for the library's model card.
std::string LoraAdapter::readme() const {
  std::string text =
      "---\nlibrary_name: peft\nbase_model: " + base_name_ +
      "\n---\n\nThis LoRA adapter is the low-rank correction of the quantized model whose rounded weights "
      "are the base `" +
      base_name_ + "`. It belongs to no other base.\n";
  if (modules_.folded.empty()) return text;
  text +=
      "\nThe corrections of these layers are part of the base's weights, because PEFT puts nothing beside "
      "modules that are read past their layer in a fused kernel:\n\n";
  for (const std::string& name : modules_.folded) text += "- `" + name + "`\n";
  return text;
}

void LoraAdapter::write() {
  tensors_.write(output_, "adapter_model");
  write_file(output_.path("adapter_config.json"), config().dump(2) + "\n");
  write_file(output_.path("README.md"), readme());
  write_checksums(output_);
}

}  // namespace ptq
