// Rounds weights to the nearest code. Needs no data, unless it is to choose the clip of each channel.
#include "ptq/base/error.h"
#include "step/options.h"
#include "step/step_makers.h"
#include "step/weight_rounding.h"

namespace ptq {
namespace {

class RtnStep : public Step {
 public:
  explicit RtnStep(JsonFields& options)
      : rounding_(options), all_(choice(options, "tensors", "linears", {"linears", "all"}) == "all") {
    options.finish();
  }

  Needs needs(Block& block) const override {
    Needs needs;
    if (!rounding_.searches_clips()) return needs;
    for (const std::string& site : rounding_.sites(block)) needs[site].samples = rounding_.samples();
    return needs;
  }

  void apply(Block& block, StepContext& context) const override {
    for (const LinearGroup& group : rounding_.groups(block, context)) {
      Tensor M;
      if (rounding_.searches_clips()) {
        M = rounded_second_moment(block.site(group.site), context.statistics.at(group.site));
      }
      for (Linear* linear : group.linears) {
        const Tensor& W = linear->weight.value;
        linear->weight.set_quantized(round_to_nearest(W, rounding_.scheme(), rounding_.clips(W, M)));
      }
    }
    if (!all_) return;
    // The convolution, A (in the log domain) and D are vectors a channel: one scale each, at 8 bits.
    const WeightScheme per_tensor;
    for (Weight* weight : block.weights()) {
      const bool small =
          weight->role == Role::kConv || weight->role == Role::kDecay || weight->role == Role::kSkip;
      if (small && !context.skip(weight->name))
        weight->set_quantized(round_to_nearest(weight->value, per_tensor));
    }
  }

 private:
  WeightRounding rounding_;
  bool all_;
};

}  // namespace

std::unique_ptr<Step> make_rtn_step(JsonFields& options) {
  return std::make_unique<RtnStep>(options);
}

}  // namespace ptq
