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
    std::vector<Task> tasks;
    for (const LinearGroup& group : rounding_.groups(sublayer, context)) {
      const bool silent = rounding_.searches_clips() && context.statistics.at(group.site).all_zero();
      for (Linear* linear : group.linears) {
        tasks.push_back({linear, rounding_.scheme_for(*linear, context.remarks)});
        // Without activity all clips cost nothing, and the first is the whole range.
        if (silent) context.remarks.fallbacks.push_back({linear->name, "rounded without clips", kNoActivity});
      }
    }
    if (rounding_.searches_clips()) {
      round_with_clips(tasks, sublayer, context);
    } else {
      // In less time than to tell others what came of it.
      for (const Task& task : tasks) {
        const Tensor W = task.linear->weight.values();
        task.linear->weight.set(
            rounding_.by_part()
                ? round_parts(task.linear->weight, part_scheme(task.linear->weight, task.scheme))
                : round_to_nearest(W, task.scheme, rounding_.fixed_clip(W)));
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

  struct Task {
    Linear* linear;
    WeightScheme scheme;
  };

  void round_with_clips(const std::vector<Task>& tasks, Sublayer& sublayer, StepContext& context) const {
    std::vector<double> costs;
    for (const Task& task : tasks)
      costs.push_back(clip_search_cost(task.linear->weight, rounding_.samples()).operations);
    std::string site;  // that M is of: linears of a site follow one another
    Tensor M;
    const auto solve = [&](size_t i) {
      const Linear& linear = *tasks[i].linear;
      if (linear.site != site)
        M = rounded_second_moment(sublayer.site(linear.site), context.statistics.at(linear.site));
      site = linear.site;
      const Tensor W = linear.weight.values();
      return parcel_of(round_to_nearest(W, tasks[i].scheme, rounding_.clips(W, M, tasks[i].scheme)));
    };
    context.processes.share(costs, solve, [&](size_t i, const Parcel& parcel) {
      Weight& weight = tasks[i].linear->weight;
      ParcelReader reader(parcel);
      weight.set(quantized_of(reader, tasks[i].scheme, weight.device()));
    });
  }

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
