// Rounds weights to the nearest code; needs no data.
#include "ptq/base/error.h"
#include "step/options.h"
#include "step/step_makers.h"

namespace ptq {
namespace {

WeightScheme read_scheme(JsonFields& options) {
  WeightScheme scheme;
  scheme.bits = bits_option(options, 8, 4, 8);
  if (scheme.bits != 4 && scheme.bits != 8) {
    throw usage_error(options.path() + ".bits", std::to_string(scheme.bits) + " bits; 4 and 8 are supported");
  }
  const std::string granularity = choice(options, "granularity", "channel", {"tensor", "channel", "group"});
  if (granularity == "tensor") scheme.granularity = Granularity::kTensor;
  if (granularity == "channel") scheme.granularity = Granularity::kChannel;
  if (granularity == "group") {
    scheme.granularity = Granularity::kGroup;
    scheme.group = options.integer("group", 128);
    scheme.half_scales = true;
    if (scheme.group < 8 || scheme.group > 65536) {
      throw usage_error(options.path() + ".group",
                        std::to_string(scheme.group) + " weights a group; 8 to 65536 are supported");
    }
  }
  return scheme;
}

class RtnStep : public Step {
 public:
  explicit RtnStep(JsonFields& options)
      : scheme_(read_scheme(options)),
        all_(choice(options, "tensors", "linears", {"linears", "all"}) == "all") {
    options.finish();
  }

  Needs needs(Block&) const override { return {}; }

  void apply(Block& block, StepContext& context) const override {
    for (Linear* linear : block.linears()) {
      if (context.skip(linear->name)) {
        context.remarks.push_back({linear->name, "kept in float", "skipped by the recipe"});
      } else if (linear->min_bits > scheme_.bits) {
        context.remarks.push_back(
            {linear->name, "kept in float",
             "the architecture allows no fewer than " + std::to_string(linear->min_bits) + " bits here"});
      } else {
        linear->weight.set_quantized(round_to_nearest(linear->weight.value, scheme_));
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
  WeightScheme scheme_;
  bool all_;
};

}  // namespace

std::unique_ptr<Step> make_rtn_step(JsonFields& options) {
  return std::make_unique<RtnStep>(options);
}

}  // namespace ptq
