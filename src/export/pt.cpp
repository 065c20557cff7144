// The weights of an artifact as plain tensors in one file, which torch.load reads: for scripts, and for
// programs that have their own layout.
//
// A weight in codes NAME [out, in] is
//   NAME.codes   int8 [out, in]
//   NAME.scale   float32 [1], [out, 1] or [out, groups]
//   NAME.zero    int8, the shape of the scale; none if the codes are symmetric
//   NAME.group   int64 [], the columns that share a scale; only of groups
//   NAME.table   float32 [16], what codes stand for; only of NF4
// and a weight in float NAME. Corrections are LINEAR.lora_A [rank, in] and LINEAR.lora_B [out, rank]; a
// static scale of a site's activations is SITE.scale [1]. "usage" is Python that puts a weight together.
#include "export/bitsandbytes_source.h"
#include "export/rows.h"
#include "export/torch_file.h"
#include "export/weights_plan.h"
#include "ptq/artifact/format.h"
#include "ptq/base/error.h"
#include "ptq/base/interrupt.h"
#include "ptq/base/memory.h"
#include "ptq/report/report.h"

namespace ptq {
namespace {

constexpr const char* kUsage =
    R"(def weight(t, name):  # t = torch.load(PATH, weights_only=True), name = "...q_proj.weight"
    if name in t: return t[name].float()
    codes, scale, zero = t[name + ".codes"], t[name + ".scale"], t.get(name + ".zero", torch.zeros(1))
    spread = lambda x: x.repeat_interleave(int(t[name + ".group"]), 1)[:, :codes.shape[1]] if name + ".group" in t and x.dim() > 1 else x
    values = t[name + ".table"][codes.long()] if name + ".table" in t else codes.float() - spread(zero)
    return values * spread(scale)  # and + lora_B @ lora_A of the layer, if there are such
)";

struct Counts {
  int64_t in_codes = 0, in_float = 0, corrections = 0;
};

void add(const Weight& weight, TorchFile& file, Counts& counts) {
  const QuantizedTensor* q = weight.quantized();
  if (q == nullptr) {
    file.add(weight.name, weight.values().to(weight.stored));
    ++counts.in_float;
    return;
  }
  file.add(weight.name + ".codes", q->codes);
  file.add(weight.name + ".scale", q->scale);
  if (q->zero.defined()) file.add(weight.name + ".zero", q->zero);
  if (q->scheme.granularity == Granularity::kGroup)
    file.add(weight.name + ".group", at::scalar_tensor(q->scheme.group, at::kLong));
  if (q->scheme.format == NumberFormat::kNf4) file.add(weight.name + ".table", nf4_map());
  ++counts.in_codes;
}

void add(Block& block, TorchFile& file, Counts& counts) {
  for (const Weight* weight : block.weights()) add(*weight, file, counts);
  for (const Linear* linear : block.linears()) {
    if (!linear->correction) continue;
    file.add(linear->name + kLoraASuffix, linear->correction->A);
    file.add(linear->name + kLoraBSuffix, linear->correction->B);
    ++counts.corrections;
  }
  for (const Site* site : block.sites()) {
    if (site->quantizer.scale.defined())
      file.add(site_key(block.prefix(), site->name) + kScaleSuffix, site->quantizer.scale);
  }
}

std::string why_not(const OpenModel& artifact, const ExportTarget&) {
  return reason_against([&] {
    for (int64_t i = 0; i < artifact.model->num_blocks(); ++i) {
      const std::unique_ptr<Block> block = artifact.model->load_block(i);
      for (const Site* site : block->sites()) {
        if (site->transform.empty()) continue;
        throw Error(site_text(*block, *site),
                    "has an online transform (" + transform_text(site->transform) +
                        "), which is no tensor that a weight is made of",
                    "--format float, which takes it out of the weights");
      }
    }
  });
}

// Memory: a block at a time.
ExportResult write(const OpenModel& artifact, const ExportTarget& target) {
  Model& model = *artifact.model;
  Counts counts;
  std::map<std::string, int64_t> unrounded;
  TorchFile file(target.output);
  file.add("usage", kUsage);
  for (int64_t i = 0; i < model.num_blocks(); ++i) {
    throw_if_interrupted();
    const std::unique_ptr<Block> block = model.load_block(i);
    add(*block, file, counts);
    add_unrounded_sites(*block, unrounded);
    return_free_memory();
  }
  for (const Weight* weight : model.outer_weights()) add(*weight, file, counts);
  file.commit();
  std::string text =
      target.output + ": " + format_bytes(file.bytes()) + ", " + count_text(counts.in_codes, "weight") +
      " in codes, " + std::to_string(counts.in_float) + " in float" +
      (counts.corrections > 0 ? ", " + count_text(counts.corrections, "correction") : "") +
      "\n  torch.load(PATH, weights_only=True)[\"usage\"] says how to put a weight together\n" +
      unrounded_text(unrounded);
  return {{{"output", target.output},
           {"bytes", file.bytes()},
           {"weights_in_codes", counts.in_codes},
           {"weights_in_float", counts.in_float},
           {"corrections", counts.corrections},
           {"unrounded_sites", unrounded}},
          text};
}

}  // namespace

FormatEntry pt_format() {
  FormatEntry entry{};
  entry.name = "pt";
  entry.description = "plain tensors in one file, which torch.load reads";
  entry.output = "file";
  entry.suffix = ".pt";
  entry.why_not = why_not;
  entry.write = write;
  entry.why_not_opened = "plain tensors say nothing of the model; the output they were made from can be run";
  return entry;
}

}  // namespace ptq
