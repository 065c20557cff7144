// Moves the spread of activation channels into the weights (SmoothQuant, arXiv 2211.10438).
//
// A channel that is a hundred times larger than the others decides the activation scale, while weights are
// even. Divide the channel by s where it is made, multiply the column that reads it by s: the product is the
// same, and with s = a^alpha / w^(1 - alpha) both sides share the difficulty. Only where the maker is linear
// in its channels' scale can the division be folded: those are the fold edges that the architecture declares,
// and no other site is touched. Cost: one pass for the channels' maxima; nothing at run time.
#include "ptq/base/error.h"
#include "ptq/step/rewrites.h"
#include "step/step_makers.h"

namespace ptq {
namespace {

class SmoothStep : public Step {
 public:
  explicit SmoothStep(JsonFields& options) : alpha_(options.number("alpha", 0.5)) {
    options.finish();
    if (!(alpha_ >= 0 && alpha_ <= 1)) {
      throw usage_error(options.path() + ".alpha", std::to_string(alpha_) + " is outside [0, 1]");
    }
  }

  Needs needs(Block& block) const override {
    Needs needs;
    for (const FoldEdge& edge : block.fold_edges()) needs[edge.site].channel_abs_max = true;
    return needs;
  }

  void apply(Block& block, StepContext& context) const override {
    for (const FoldEdge& edge : block.fold_edges()) {
      Tensor weight_abs_max;  // [channels]
      for (const Linear* reader : edge.readers) {
        const Tensor columns = reader->weight.value.abs().amax(0);
        weight_abs_max = weight_abs_max.defined() ? at::maximum(weight_abs_max, columns) : columns;
      }
      const Tensor s =
          smoothing_scales(context.statistics.at(edge.site).channel_abs_max, weight_abs_max, alpha_);
      fold_scales(edge, s);
      block.site(edge.site).smooth = s;
    }
  }

 private:
  double alpha_;
};

}  // namespace

Tensor smoothing_scales(const Tensor& activation_abs_max, const Tensor& weight_abs_max, double alpha) {
  const Tensor a = activation_abs_max.clamp_min(1e-5);
  const Tensor w = weight_abs_max.clamp_min(1e-5);
  return (a.pow(alpha) / w.pow(1 - alpha)).clamp_min(1e-5);
}

void fold_scales(const FoldEdge& edge, const Tensor& s) {
  const int64_t channels = s.size(0);
  for (const FoldEdge::Rows& producer : edge.producers) {
    Tensor value = producer.weight->value.clone();  // a clone of the block may share the tensor
    Tensor rows = value.slice(0, producer.first, producer.first + channels);
    rows.div_(value.dim() == 1 ? s : s.unsqueeze(1));
    producer.weight->value = value;
  }
  for (Linear* reader : edge.readers) reader->weight.value = reader->weight.value * s;
}

std::unique_ptr<Step> make_smooth_step(JsonFields& options) {
  return std::make_unique<SmoothStep>(options);
}

}  // namespace ptq
