#include "pipeline/quality.h"

#include "ptq/base/memory.h"
#include "ptq/engine/evaluate.h"

namespace ptq {
namespace {

Quality quality_of(const LossSums& sums, const std::string& text) {
  const auto tokens = static_cast<double>(sums.tokens);
  return {text,
          sums.tokens,
          sums.reference_perplexity(),
          sums.perplexity(),
          sums.kl / tokens,
          static_cast<double>(sums.agreeing) / tokens};
}

}  // namespace

Quality quality_on_windows(const Model& float_model, const Tensor& hidden, const Tensor& ids,
                           const OpenModel& artifact) {
  const Tensor quantized = run_blocks(*artifact.model, ids);
  return_free_memory();  // that of the activations: what logits take comes on top of the hidden states only
  LossSums sums;
  add_losses(sums, *artifact.model, quantized, ids, &float_model, hidden);
  return quality_of(sums, "the held-out calibration windows");
}

Quality quality_on_text(const Model& float_model, const OpenModel& artifact, const std::vector<int64_t>& ids,
                        int64_t length, const std::string& text, Progress& progress) {
  const Tensor windows = evaluation_windows(ids, length, text);
  progress.start("evaluating", evaluation_steps(*artifact.model, windows, &float_model));
  return quality_of(evaluate(*artifact.model, windows, &float_model, [&] { progress.advance(); }), text);
}

}  // namespace ptq
