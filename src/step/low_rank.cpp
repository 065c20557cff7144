// The step that puts low-rank terms beside rounded weights (solve/low_rank.cpp), on whatever base the steps
// before it have left: weights rounded to nearest or by GPTQ, rotated or not.
#include "ptq/solve/low_rank.h"

#include <algorithm>
#include <array>
#include <limits>

#include "ptq/base/error.h"
#include "ptq/base/interrupt.h"
#include "ptq/calibration/site_sums.h"
#include "ptq/calibration/stream.h"
#include "ptq/solve/gptq.h"
#include "ptq/solve/rank_budget.h"
#include "step/low_rank_candidate.h"
#include "step/low_rank_options.h"
#include "step/rival_format.h"
#include "step/step_makers.h"

namespace ptq {
namespace {

using Variant = LowRankStepOptions::Variant;

// From which `auto` chooses: exact, two that trust small correlations less, and the diagonal alone.
constexpr std::array<double, 4> kShrinkages = {0, .1, .3, 1};
// A second moment from fewer tokens an input than this fits noise.
constexpr double kTokensPerInput = 2;
// Of what --target-bpw shares out: no layer gets more.
constexpr int64_t kLargestSharedRank = 256;

std::vector<InputMetric> metrics_of(const LowRankStepOptions& options, const SiteStatistics& statistics) {
  const Tensor& R = statistics.second_moment.value();
  switch (options.variant) {
    case Variant::kExact:
      return {InputMetric::full(R, options.shrinkage)};
    case Variant::kApprox:
      return {InputMetric::full(R, 1)};
    case Variant::kLqer:
      return {InputMetric::diagonal(statistics.channel_mean_abs.square())};
    case Variant::kIdentity:
      return {InputMetric::diagonal(at::ones_like(R.diagonal()))};
    case Variant::kAuto:
      break;
  }
  std::vector<InputMetric> all;
  for (const double shrinkage : kShrinkages) all.push_back(InputMetric::full(R, shrinkage));
  return all;
}

void warn_of_few_tokens(const std::string& site, int64_t inputs, int64_t seen,
                        std::vector<std::string>& warnings) {
  const auto in = static_cast<double>(inputs), tokens = static_cast<double>(seen);
  if (tokens >= kTokensPerInput * in) return;
  warnings.push_back("low_rank: " + format_number(tokens, 0) + " calibration tokens for the " +
                     format_number(in, 0) + " inputs of " + site + ", " + format_number(tokens / in, 2) +
                     " an input: the correction fits noise; at least " +
                     format_number(kTokensPerInput * in, 0) + " tokens are wanted");
}

void expect_uncorrected(const Linear& linear) {
  if (!linear.correction) return;
  throw usage_error("low_rank", linear.name + " has a correction from a step before",
                    "`linears` of each step, so that no layer is in both");
}

class LowRankStep : public Step {
 public:
  explicit LowRankStep(JsonFields& options) : options_(read_low_rank_options(options)) { options.finish(); }

  std::vector<std::string> patterns() const override {
    std::vector<std::string> patterns = options_.linears;
    for (const auto& [pattern, rank] : options_.ranks) patterns.push_back(pattern);
    return patterns;
  }

  Needs needs(Sublayer& sublayer) const override {
    Needs needs;
    for (const Linear* linear : sublayer.linears()) {
      if (!options_.selects(linear->name)) continue;
      needs[linear->site].second_moment = true;
      needs[linear->site].channel_mean_abs |= options_.variant == Variant::kLqer;
    }
    return needs;
  }

  void apply(Sublayer& sublayer, StepContext& context) const override {
    std::vector<Candidate> candidates;
    const std::vector<Linear*> originals = context.target->linears(), linears = sublayer.linears();
    for (size_t i = 0; i < linears.size(); ++i) {
      if (!linears[i]->weight.quantized() || !options_.selects(linears[i]->name)) continue;
      expect_uncorrected(*linears[i]);
      if (context.statistics.at(linears[i]->site).all_zero()) {
        context.remarks.fallbacks.push_back({linears[i]->name, "left without a correction", kNoActivity});
        continue;
      }
      Candidate candidate;
      candidate.linear = linears[i];
      candidate.W = originals[i]->weight.values();
      candidate.base = *linears[i]->weight.quantized();
      candidate.rank = options_.target_bpw > 0 ? kLargestSharedRank : options_.rank_of(linears[i]->name);
      candidates.push_back(std::move(candidate));
    }
    std::map<std::string, SiteInput> inputs = site_inputs(candidates, context);
    std::vector<double> costs;
    for (Candidate& candidate : candidates) {
      candidate.input = &inputs.at(candidate.linear->site);
      StepCost cost;
      add_cost(candidate.W.size(0), candidate.W.size(1), candidate.rank, cost);
      costs.push_back(cost.operations);
    }
    const auto solve_first = [&](Candidate& candidate) {
      SiteInput& input = inputs.at(candidate.linear->site);
      if (input.metrics.empty())
        input.metrics = metrics_of(options_, context.statistics.at(candidate.linear->site));
      solve(candidate, options_.target_bpw > 0 ? 1 : options_.rounds, context.seed);
    };
    if (options_.target_bpw > 0) share_budget(candidates, costs, context.processes, solve_first);
    const auto correct = [&](size_t i) {
      if (options_.target_bpw > 0) {
        give_share(candidates[i], context.seed);
      } else {
        solve_first(candidates[i]);
      }
      finish(candidates[i]);
      return parcel_of(candidates[i]);
    };
    context.processes.share(costs, correct, [&](size_t i, const Parcel& parcel) {
      (*context.corrections)[candidates[i].linear->name] = take(parcel, candidates[i], options_.stored);
      candidates[i] = {};  // its matrices
    });
  }

  void plan(Sublayer& sublayer, PlanContext& context) const override {
    int64_t weights = 0;
    double bits = 0;
    std::vector<Linear*> corrected;
    for (Linear* linear : sublayer.linears()) {
      if (!linear->weight.quantized() || !options_.selects(linear->name)) continue;
      expect_uncorrected(*linear);
      corrected.push_back(linear);
      warn_of_few_tokens(linear->site, linear->weight.size(1), context.calibration_tokens, context.warnings);
      const int64_t out = linear->weight.size(0), in = linear->weight.size(1);
      weights += out * in;
      bits += linear->weight.quantized()->scheme.bits_per_weight(out, in) * static_cast<double>(out * in);
      add_cost(out, in, options_.target_bpw > 0 ? kLargestSharedRank : options_.rank_of(linear->name),
               context.cost);
    }
    context.at_most = context.at_most || options_.target_bpw > 0;
    if (options_.target_bpw > 0) {
      const std::vector<int64_t> ranks = largest_shares(corrected, budget_bytes(weights, bits));
      for (size_t i = 0; i < corrected.size(); ++i) set_empty_correction(*corrected[i], ranks[i]);
    } else {
      for (Linear* linear : corrected) set_empty_correction(*linear, options_.rank_of(linear->name));
    }
  }

 private:
  // On disk, of a weight [out, in].
  int64_t rank_bytes(int64_t out, int64_t in) const {
    const int64_t scales = options_.stored == at::kChar ? 2 * static_cast<int64_t>(sizeof(float)) : 0;
    return (out + in) * static_cast<int64_t>(at::elementSize(options_.stored)) + scales;
  }

  void set_empty_correction(Linear& linear, int64_t most) const {
    const int64_t out = linear.weight.size(0), in = linear.weight.size(1), rank = std::min({most, out, in});
    const at::TensorOptions on_device = linear.weight.device();
    linear.correction =
        make_low_rank(at::empty({rank, in}, on_device), at::empty({out, rank}, on_device), options_.stored);
  }

  // Ranks that together take no less than any shares of `bytes`: the same for all, as far as layers have so
  // many, and one more, because shares may fit better.
  std::vector<int64_t> largest_shares(const std::vector<Linear*>& linears, double bytes) const {
    std::vector<RankOffer> offers;
    for (const Linear* linear : linears) {
      const int64_t out = linear->weight.size(0), in = linear->weight.size(1);
      RankOffer offer{{}, rank_bytes(out, in)};
      const int64_t most = std::min({kLargestSharedRank, out, in});
      for (int64_t rank = 1; rank <= most; ++rank)
        offer.gains.push_back(static_cast<double>(offer.bytes_per_rank) / static_cast<double>(rank));
      offers.push_back(std::move(offer));
    }
    std::vector<int64_t> ranks = share_ranks(offers, static_cast<int64_t>(bytes));
    for (size_t i = 0; i < ranks.size(); ++i)
      ranks[i] = std::min(ranks[i] + 1, static_cast<int64_t>(offers[i].gains.size()));
    return ranks;
  }

  // What corrections of `weights` weights may take, whose base takes `bits`. A base that takes more than the
  // target is refused.
  double budget_bytes(int64_t weights, double bits) const {
    const auto count = static_cast<double>(weights);
    if (bits > options_.target_bpw * count) {
      throw usage_error("--target-bpw",
                        format_number(options_.target_bpw, 2) + " bits a weight are fewer than the " +
                            format_number(bits / count, 2) + " that the base takes without a correction",
                        "a larger target, or a base of fewer bits");
    }
    return (options_.target_bpw * count - bits) / 8;
  }

  // Whether a layer whose share of the budget is known is solved again.
  bool solves_again() const { return options_.rounds > 1 || options_.variant == Variant::kAuto; }

  // Of one linear: products, and the space that the leading eigenvectors of the smaller side are found in;
  // error, product and space in float64. With alternation also a product a round.
  void add_cost(int64_t out, int64_t in, int64_t rank, StepCost& cost) const {
    const auto n = static_cast<double>(std::min(out, in)), m = static_cast<double>(std::max(out, in));
    const double passes = options_.target_bpw > 0 && solves_again() ? 2 : 1;
    const double solves = passes * (options_.variant == Variant::kAuto ? kShrinkages.size() : 1);
    const double columns = std::min(n, static_cast<double>(4 * rank + 64));
    const double rounds = options_.rounds > 1 ? static_cast<double>(options_.rounds) : 0;
    cost.operations += solves * (2 * n * m * (n + m / 2) + 10 * n * n * columns);
    cost.operations += solves * rounds * 2 * static_cast<double>(out) * static_cast<double>(in * in);
    cost.bytes =
        std::max(cost.bytes, 8 * (3 * out * in + 4 * std::min(out, in) * std::min(out, in) + 2 * in * in));
  }

  std::map<std::string, SiteInput> site_inputs(const std::vector<Candidate>& candidates,
                                               StepContext& context) const {
    std::map<std::string, SiteInput> inputs;
    Needs moments;
    for (const Candidate& candidate : candidates) {
      const std::string& site = candidate.linear->site;
      if (inputs.contains(site)) continue;
      const SiteStatistics& statistics = context.statistics.at(site);
      warn_of_few_tokens(site, statistics.second_moment.value().size(0), statistics.tokens,
                         *context.warnings);
      inputs[site] = {statistics.second_moment.value(), {}, {}};
      moments[site].second_moment = true;
    }
    if (options_.variant != Variant::kAuto || inputs.empty()) return inputs;
    Parcel held_out;  // of the sites in order
    if (context.processes.is_first()) {
      StatisticsObserver observer(context.rewritten->prefix, moments,
                                  Batches::of(context.inputs.size(0), context.inputs.size(1)));
      observe(*context.rewritten, context.inputs, observer);
      for (const auto& [site, statistics] : observer.finish()) held_out.add(statistics.second_moment.value());
    }
    context.processes.broadcast(held_out);
    ParcelReader reader(held_out);
    for (auto& [site, input] : inputs) input.R_held_out = reader.tensor();
    return inputs;
  }

  // Fills in the error and its solution; with alternation the linear's codes become those of the best round.
  void solve(Candidate& candidate, int64_t rounds, uint64_t seed) const {
    throw_if_interrupted();
    LowRankOptions options;
    options.rank = candidate.rank;
    options.seed = seed;
    QuantizedTensor codes;
    double least = std::numeric_limits<double>::infinity();
    const std::vector<InputMetric>& metrics = candidate.input->metrics;
    for (size_t i = 0; i < metrics.size(); ++i) {
      std::vector<QuantizedTensor> rounded;
      AlternatingSolution found = alternate(
          candidate.W, metrics[i], options, static_cast<int>(rounds), [&](const Tensor& target, int round) {
            rounded.push_back(round == 0 ? candidate.base : round_again(target, candidate));
            return dequantize(rounded.back());
          });
      const Tensor D = candidate.W - found.W;
      const double left = metrics.size() > 1 ? energy_on_held_out(D, found.correction.V, candidate) : 0;
      if (!(left < least)) continue;
      least = left;
      codes = rounded.at(static_cast<size_t>(found.round));
      candidate.D = D;
      candidate.metric = &metrics[i];
      candidate.solution = std::move(found.correction);
      candidate.row.variant = options_.variant_name();
      if (options_.variant == Variant::kAuto) candidate.row.shrinkage = kShrinkages[i];
      if (options_.variant == Variant::kExact) candidate.row.shrinkage = options_.shrinkage;
      candidate.row.rounds = found.round + 1;
    }
    if (candidate.row.rounds > 1) candidate.codes = codes;
  }

  QuantizedTensor round_again(const Tensor& target, const Candidate& candidate) const {
    const WeightScheme& scheme = candidate.base.scheme;
    if (options_.rounds_by_gptq) return gptq(target, candidate.input->R, {}, scheme);
    return round_to_nearest(target, scheme);
  }

  // trace((D - V V^T D) R (D - V V^T D)^T): V V^T is a projection, so what it takes off stands alone.
  double energy_on_held_out(const Tensor& D, const Tensor& V, const Candidate& candidate) const {
    const Tensor& R = candidate.input->R_held_out;
    // Without alternation the first term is the same for all candidates.
    const double whole = options_.rounds > 1 ? output_energy(D, R.to(at::kFloat)) : 0;
    return whole - output_energy(V.t().matmul(D.to(at::kDouble)), R);
  }

  // Ranks by what each takes off the relative error of its layer, a byte, within the sublayer. Each thus
  // gets its own share of the budget: errors of different ones cannot be compared, and one pass is enough.
  // Error and signal are measured by the metric that the layer is solved with.
  void share_budget(std::vector<Candidate>& candidates, const std::vector<double>& costs,
                    Processes& processes, const std::function<void(Candidate&)>& solve_first) const {
    double bits = 0;
    int64_t weights = 0;
    std::vector<RankOffer> offers;
    const auto gains_of = [&](size_t i) {
      solve_first(candidates[i]);
      const Tensor W = candidates[i].W.to(at::kDouble);
      const double signal = (W * candidates[i].metric->times(W)).sum().item<double>();
      Parcel gains;
      gains.add(candidates[i].solution.eigenvalues.cpu() / std::max(signal, 1e-300));
      return gains;
    };
    processes.share(costs, gains_of, [&](size_t i, const Parcel& gains) {
      const Candidate& candidate = candidates[i];
      const int64_t out = candidate.W.size(0), in = candidate.W.size(1);
      weights += out * in;
      bits += candidate.base.scheme.bits_per_weight(out, in) * static_cast<double>(out * in);
      offers.push_back({ParcelReader(gains).doubles(), rank_bytes(out, in)});
    });
    const std::vector<int64_t> ranks = share_ranks(offers, static_cast<int64_t>(budget_bytes(weights, bits)));
    for (size_t i = 0; i < candidates.size(); ++i) candidates[i].rank = ranks[i];
  }

  // The correction of the rank that a candidate has got. Codes that alternation has found for one rank are
  // not those for another.
  void give_share(Candidate& candidate, uint64_t seed) const {
    if (candidate.rank > 0 && solves_again()) {
      solve(candidate, options_.rounds, seed);
      return;
    }
    LowRankSolution& solution = candidate.solution;
    solution.V = solution.V.slice(1, 0, candidate.rank);
    solution.eigenvalues = solution.eigenvalues.slice(0, 0, candidate.rank);
  }

  void finish(Candidate& candidate) const {
    const auto [A, B] = low_rank_factors(candidate.solution.V, candidate.D);
    CorrectionRow& row = candidate.row;
    row.rank = A.size(0);
    row.stored = options_.stored_name();
    const double own = energy_of_error(candidate);
    // Codes that alternation has moved would be worse than the base if they stood alone.
    row.energy_before = row.rounds > 1 ? output_energy(candidate.W - dequantize(candidate.base),
                                                       candidate.input->R.to(at::kFloat))
                                       : own;
    row.energy_after = own;
    if (row.rank > 0) {
      expect_held(candidate.linear->name, A, B, options_.stored);
      LowRank correction = make_low_rank(A, B, options_.stored);
      row.energy_after = corrected_energy(own, candidate.D, correction.A, correction.B, candidate.input->R);
      row.bytes = correction.bytes();
      row.bits_per_weight = 8 * static_cast<double>(row.bytes) / static_cast<double>(candidate.W.numel());
      candidate.correction = std::move(correction);
    }
    if (options_.compare && row.rank > 0) compare(candidate);
  }

  void compare(Candidate& candidate) const {
    const WeightScheme& base = candidate.base.scheme;
    const double bits =
        base.bits_per_weight(candidate.W.size(0), candidate.W.size(1)) + candidate.row.bits_per_weight;
    const auto rival = best_rival(candidate.W, base, bits, candidate.input->R.to(at::kFloat));
    if (!rival || rival->energy >= *candidate.row.energy_after) return;
    candidate.row.better_base = RivalBase{rival->name, rival->bits_per_weight, rival->energy};
  }

  LowRankStepOptions options_;
};

}  // namespace

std::unique_ptr<Step> make_low_rank_step(JsonFields& options) {
  return std::make_unique<LowRankStep>(options);
}

}  // namespace ptq
