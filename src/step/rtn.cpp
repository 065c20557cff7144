// Rounds weights to the nearest code. Needs no data, unless it is to choose the clip of each channel.
#include <algorithm>

#include "ptq/base/error.h"
#include "step/options.h"
#include "step/step_makers.h"
#include "step/weight_rounding.h"

namespace ptq {
namespace {

class RtnStep : public Step {
 public:
  explicit RtnStep(JsonFields& options)
      : tensors_(choice(options, "tensors", Tensors::kLinears,
                        {{"linears", Tensors::kLinears}, {"all", Tensors::kAll}, {"rest", Tensors::kRest}})),
        rounding_(options, /*rest=*/tensors_ == Tensors::kRest) {
    options.finish();
  }

  void check(const std::vector<Sublayer*>& sublayers) const override { rounding_.check(sublayers); }

  Needs needs(Sublayer& sublayer) const override {
    Needs needs;
    if (!rounding_.searches_clips()) return needs;
    for (const std::string& site : rounding_.sites(sublayer)) needs[site].samples = rounding_.samples();
    return needs;
  }

  std::vector<Linear*> linears_to_round(Sublayer& sublayer,
                                        const std::function<bool(const std::string&)>& skip) const override {
    return rounding_.linears(sublayer, skip);
  }

  void apply(Sublayer& sublayer, StepContext& context) const override {
    const bool small_too = context.sites == nullptr || has_last_site(sublayer, context);
    for (const LinearGroup& group : rounding_.groups(sublayer, context)) {
      Tensor M;
      bool silent = false;
      if (rounding_.searches_clips()) {
        const SiteStatistics& statistics = context.statistics.at(group.site);
        M = rounded_second_moment(sublayer.site(group.site), statistics);
        silent = statistics.all_zero();
      }
      for (Linear* linear : group.linears) {
        const Tensor W = linear->weight.values();
        const WeightScheme scheme = rounding_.scheme_for(*linear, context.remarks);
        // Without activity all clips cost nothing, and the first is the whole range.
        if (silent) context.remarks.fallbacks.push_back({linear->name, "rounded without clips", kNoActivity});
        linear->weight.set(rounding_.by_part()
                               ? round_parts(linear->weight, part_scheme(linear->weight, scheme))
                               : round_to_nearest(W, scheme, rounding_.clips(W, M, scheme)));
      }
    }
    if (!small_too) return;
    for (Weight* weight : small_weights(sublayer, context.skip, context.remarks))
      weight->set(round_parts(*weight, small_scheme(*weight)));
  }

  void plan(Sublayer& sublayer, PlanContext& context) const override {
    for (const LinearGroup& group : rounding_.plan(sublayer, context)) {
      if (!rounding_.searches_clips()) continue;
      for (const Linear* linear : group.linears) {
        const StepCost search = clip_search_cost(linear->weight, rounding_.samples());
        context.cost.operations += search.operations;
        context.cost.bytes = std::max(context.cost.bytes, search.bytes);
      }
    }
    for (Weight* weight : small_weights(sublayer, context.skip, context.remarks))
      plan_codes(*weight, small_scheme(*weight));
  }

 private:
  enum class Tensors {
    kLinears,
    kAll,   // small weights too
    kRest,  // small weights, and linears that earlier steps have left in float
  };

  // The convolution, A (in the log domain) and D are vectors a channel: one scale each, at 8 bits, and where
  // linears are rounded part by part, one a part.
  WeightScheme small_scheme(const Weight& weight) const {
    return rounding_.by_part() ? part_scheme(weight, {}) : WeightScheme{};
  }

  // Small weights are rounded with the linears of the last site.
  bool has_last_site(Sublayer& sublayer, const StepContext& context) const {
    const std::vector<Linear*> linears = rounding_.linears(sublayer, context.skip);
    return linears.empty() || std::ranges::find(*context.sites, linears.back()->site) != context.sites->end();
  }

  std::vector<Weight*> small_weights(Sublayer& sublayer, const std::function<bool(const std::string&)>& skip,
                                     Remarks& remarks) const {
    std::vector<Weight*> small;
    for (Weight* weight : sublayer.weights()) {
      const bool is_small =
          weight->role == Role::kConv || weight->role == Role::kDecay || weight->role == Role::kSkip;
      if (tensors_ == Tensors::kLinears || !is_small) continue;
      if (skip(weight->name)) {
        remarks.decisions.push_back({weight->name, "kept in float", "skipped by the recipe"});
      } else {
        small.push_back(weight);
      }
    }
    return small;
  }

  Tensors tensors_;
  WeightRounding rounding_;
};

}  // namespace

std::unique_ptr<Step> make_rtn_step(JsonFields& options) {
  return std::make_unique<RtnStep>(options);
}

}  // namespace ptq
