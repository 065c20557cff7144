// Every step, in the order `quantize list` prints them. To add one: write src/step/<name>.cpp, declare its
// maker in step_makers.h, add its row.
#include "ptq/base/error.h"
#include "ptq/base/suggest.h"
#include "ptq/step/step.h"
#include "step/step_makers.h"

namespace ptq {

const std::vector<StepEntry>& steps() {
  static const std::vector<StepEntry> entries = {
      {"smooth", StepKind::kRewrite, "move activation outliers into the weights along fold edges",
       make_smooth_step},
      {"hadamard", StepKind::kRewrite, "rotate a site online and the weights that read it",
       make_hadamard_step},
      {"rotate", StepKind::kRewrite, "rotate inputs of linears in blocks: Hadamard or greedy (DuQuant)",
       make_rotate_step},
      {"zigzag", StepKind::kRewrite, "deal channels out to blocks by size (DuQuant)", make_zigzag_step},
      {"qk_hadamard", StepKind::kRewrite, "rotate queries and keys, head by head; B and C of Mamba-2",
       make_qk_hadamard_step},
      {"rtn", StepKind::kWeightRounding, "round weights to nearest, with fixed or searched clips",
       make_rtn_step},
      {"gptq", StepKind::kWeightRounding, "round weights column by column, making up for errors (GPTQ)",
       make_gptq_step},
      {"activations", StepKind::kActivationRounding,
       "give sites a static scale (clipped or not), or a dynamic one per token", make_activations_step},
      {"low_rank", StepKind::kCorrection,
       "rebuild lost output by a low-rank term beside rounded weights (QERA)", make_low_rank_step},
  };
  return entries;
}

const char* step_kind_name(StepKind kind) {
  switch (kind) {
    case StepKind::kRewrite:
      return "rewrite";
    case StepKind::kWeightRounding:
      return "rounding of weights";
    case StepKind::kActivationRounding:
      return "rounding of activations";
    case StepKind::kCorrection:
      return "correction";
  }
  return "?";
}

const StepEntry& find_step(const std::string& name, const std::string& where) {
  std::vector<std::string> names;
  for (const StepEntry& entry : steps()) {
    if (entry.name == name) return entry;
    names.emplace_back(entry.name);
  }
  throw usage_error(where, "there is no step \"" + name + "\"", suggest(name, names));
}

}  // namespace ptq
