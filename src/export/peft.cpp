// An artifact with low-rank corrections in the form that the Python library peft loads: a LoRA adapter, and
// the rounded weights as a float model that it belongs to.
//
// The base is a Hugging Face directory: the source's configuration and tokenizer, and the values that the
// codes stand for as the option "dtype" (f32 keeps them exactly). A linear that peft refuses
// (Linear::fused_elsewhere) has its correction in the base's weight.
#include <filesystem>

#include "export/hub_directory.h"
#include "export/rows.h"
#include "ptq/base/error.h"

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

ExportResult write_peft(const OpenModel& artifact, const ExportTarget& target) {
  const std::string base_path = std::filesystem::path(target.output).lexically_normal().string() + "-base";
  expect_absent(base_path);
  HubForm form;
  form.floats = dtype_of_option(target.options.at("dtype"));
  form.values = [](Block&, const Linear& linear) {
    const bool folded = linear.correction && linear.fused_elsewhere;
    return folded ? linear.weight.values() + linear.correction->product() : linear.weight.values();
  };
  form.corrected = find_corrected(*artifact.model);
  form.adapter = target.output;
  write_hub_directory(artifact, base_path, form);
  return result_of(form.corrected, target.output, base_path);
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
