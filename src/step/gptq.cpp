// The step that rounds weights by GPTQ (gptq_math.cpp), with the second moment of what each site receives.
#include "ptq/step/gptq.h"

#include "step/options.h"
#include "step/step_makers.h"
#include "step/weight_rounding.h"

namespace ptq {
namespace {

class GptqStep : public Step {
 public:
  explicit GptqStep(JsonFields& options)
      : rounding_(options),
        damping_(options.number("damping", 0.01)),
        order_by_activation_(options.boolean("order_by_activation", false)),
        rounded_(choice(options, "moment", "float", {"float", "rounded"}) == "rounded") {
    options.finish();
    if (!(damping_ > 0 && damping_ <= 1)) {
      throw usage_error(options.path() + ".damping", std::to_string(damping_) + " is outside (0, 1]");
    }
  }

  Needs needs(Block& block) const override {
    Needs needs;
    for (const std::string& site : rounding_.sites(block)) {
      if (rounded_) {
        needs[site].samples = rounding_.samples();
      } else {
        needs[site].second_moment = true;
      }
    }
    return needs;
  }

  void apply(Block& block, StepContext& context) const override {
    for (const LinearGroup& group : rounding_.groups(block, context)) {
      const SiteStatistics& statistics = context.statistics.at(group.site);
      const Tensor M =
          rounded_ ? rounded_second_moment(block.site(group.site), statistics) : statistics.second_moment;
      // Linears with one scale a tensor are rounded one by one; else rows do not depend on each other, and
      // all linears of the site share one decomposition.
      if (rounding_.scheme().granularity == Granularity::kTensor) {
        for (Linear* linear : group.linears) linear->weight.set_quantized(round(linear->weight.value, M));
      } else {
        round_together(group.linears, M);
      }
    }
  }

 private:
  QuantizedTensor round(const Tensor& W, const Tensor& M) const {
    GptqOptions options;
    options.damping = damping_;
    options.order_by_activation = order_by_activation_;
    options.clip = rounding_.clips(W, M.to(at::kFloat));
    return gptq(W, M, {}, rounding_.scheme(), options);
  }

  void round_together(const std::vector<Linear*>& linears, const Tensor& M) const {
    std::vector<Tensor> parts;
    for (const Linear* linear : linears) parts.push_back(linear->weight.value);
    const QuantizedTensor all = round(at::cat(parts), M);
    int64_t begin = 0;
    for (Linear* linear : linears) {
      const int64_t end = begin + linear->weight.value.size(0);
      const auto rows = [&](const Tensor& t) {
        return t.defined() ? t.slice(0, begin, end).clone() : Tensor();
      };
      linear->weight.set_quantized({rows(all.codes), rows(all.scale), rows(all.zero), all.scheme});
      begin = end;
    }
  }

  WeightRounding rounding_;
  double damping_;
  bool order_by_activation_;
  bool rounded_;
};

}  // namespace

std::unique_ptr<Step> make_gptq_step(JsonFields& options) {
  return std::make_unique<GptqStep>(options);
}

}  // namespace ptq
