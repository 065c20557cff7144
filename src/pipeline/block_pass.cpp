#include "pipeline/block_pass.h"

#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <set>

#include "pipeline/measure.h"
#include "pipeline/opening.h"
#include "pipeline/routing.h"
#include "ptq/base/error.h"
#include "ptq/calibration/pair_moments.h"
#include "ptq/calibration/site_sums.h"
#include "ptq/solve/error_feedback.h"

namespace ptq {
namespace {

// A rewrite is exact in real numbers; in float32 it may move the output by rounding, far less than this.
constexpr double kRewriteTolerance = 1e-3;
constexpr int64_t kProbeTokens = 128;  // that it is checked on

void expect_same_output(const std::string& step, const Sublayer& sublayer, const Tensor& input,
                        const Tensor& before) {
  const Tensor after = sublayer.forward(input);
  const double size = std::max((before - input).norm().item<double>(), 1e-30);
  const double error = (after - before).norm().item<double>() / size;
  if (!(error < kRewriteTolerance)) {
    throw Error(sublayer.prefix,
                "the step \"" + step + "\" changed a sublayer's output by a relative " +
                    format_number(error, 6) + "; it must leave it as it was",
                "", ExitCode::kBug);
  }
}

// A rewrite may have moved a weight past the range of the dtype that it is stored in.
void expect_finite(const Weight& weight) {
  if (weight.quantized() || at::isfinite(weight.values()).all().item<bool>()) return;
  throw Error(weight.name,
              std::string("has values that ") + at::toString(weight.stored) +
                  ", its stored dtype, does not hold, after the recipe's rewrites",
              "a recipe without rewrites, or a checkpoint in BF16 or F32");
}

// Adds what a pass has measured to what is known.
void merge(Statistics& known, Statistics measured) {
  for (auto& [site, fresh] : measured) {
    SiteStatistics& entry = known[site];
    if (!fresh.samples.defined()) fresh.samples = entry.samples;
    if (!fresh.second_moment.defined()) fresh.second_moment = entry.second_moment;
    entry = std::move(fresh);
  }
}

// Measures the windows calibrated on; `moves`: and moves all windows past the sublayer.
Statistics run_pass(const Sublayer& sublayer, const Needs& needs, Streams& streams, bool moves,
                    Processes& processes) {
  StatisticsObserver observer(sublayer.prefix, needs, streams.calibrated);
  if (moves) {
    streams.floats.advance(sublayer, &observer);
  } else if (!needs.empty()) {
    observe(sublayer, streams.floats.calibrated(), observer);
  }
  observer.merge(processes);
  return observer.finish();
}

// What rewrites are checked on when there is no text: they are exact for any hidden states.
Tensor random_states(int64_t width, uint64_t seed) {
  return at::randn({1, kProbeTokens, width}, at::make_generator<at::CPUGeneratorImpl>(seed));
}

}  // namespace

BlockPass::BlockPass(const Recipe& recipe, uint64_t seed) : recipe_(recipe), seed_(seed) {
  for (const StepConfig& config : recipe.steps) {
    const StepEntry& entry = find_step(config.name, recipe.method);
    JsonFields options(config.options, recipe.method + "." + config.name);
    steps_.push_back({config.name, entry.kind, entry.make(options)});
  }
  const auto is_rewrite = [](const NamedStep& step) { return step.kind == StepKind::kRewrite; };
  const auto end_of_rewrites = std::find_if_not(steps_.begin(), steps_.end(), is_rewrite);
  TORCH_CHECK(std::none_of(end_of_rewrites, steps_.end(), is_rewrite),
              "read_recipe() lets rewrites come first");
  num_rewrites_ = static_cast<size_t>(end_of_rewrites - steps_.begin());
  skip_ = [this](const std::string& name) { return is_skipped(recipe_, name); };
}

bool BlockPass::needs_data(const Model& model) const {
  std::vector<std::unique_ptr<Block>> blocks;
  std::vector<Sublayer*> sublayers;
  for (int64_t i = 0; i < model.num_blocks(); ++i) {
    blocks.push_back(model.load_block(i));
    for (Sublayer& sublayer : blocks.back()->sublayers()) sublayers.push_back(&sublayer);
  }
  bool needed = recipe_.feedback.is_on();
  for (const NamedStep& step : steps_) {
    step.step->check(sublayers);
    for (Sublayer* sublayer : sublayers) needed = !step.step->needs(*sublayer).empty() || needed;
  }
  return needed;
}

// What a rewrite measures itself takes a pass before it, for it changes what later steps see; all roundings
// share one. Samples and second moments follow a site through rewrites, so the first pass gathers them for
// all steps. A DuQuant run thus needs one pass, a static one with smoothing two.
std::vector<BlockPass::Pass> BlockPass::plan_passes(Sublayer& sublayer) const {
  std::vector<Pass> passes;
  Needs carried;
  size_t deadline = steps_.size();  // the first step that looks at something carried
  for (size_t i = 0; i < steps_.size(); ++i) {
    const size_t before = std::min(i, num_rewrites_);
    for (auto [site, needs] : steps_[i].step->needs(sublayer)) {
      // With feedback, the second moments are those of the rounded model, which are gathered later.
      if (recipe_.feedback.is_on() && i >= num_rewrites_) needs.second_moment = false;
      if (!needs.direct().empty()) {
        if (passes.empty() || passes.back().before != before) passes.push_back({before, {}});
        passes.back().needs[site].merge(needs.direct());
      }
      if (!needs.carried().empty()) {
        carried[site].merge(needs.carried());
        deadline = std::min(deadline, before);
      }
    }
  }
  if (passes.empty() || (!carried.empty() && passes.front().before > deadline)) {
    passes.insert(passes.begin(), {carried.empty() ? num_rewrites_ : deadline, {}});
  }
  for (const auto& [site, needs] : carried) passes.front().needs[site].merge(needs);
  return passes;
}

void BlockPass::check_patterns(const std::vector<std::string>& names) const {
  for (const NamedStep& step : steps_) {
    for (const std::string& pattern : step.step->patterns()) expect_match(step.name, pattern, names);
  }
}

// Of round_with_feedback() and what moves the streams: forwards of the float sublayer and of the rounded
// one up to each site, which together are about one of each, and one of each for all windows.
void BlockPass::plan_feedback(Sublayer& sublayer, const Step& step, int64_t calibration_tokens,
                              SublayerPlan& plan) const {
  constexpr int64_t kForwards = 4, kMatrices = 5;  // R, D, the damped R, its factor, and one on its way
  plan.passes += kForwards;
  StepCost cost;
  std::set<std::string> sites;
  for (const Linear* linear : step.linears_to_round(sublayer, skip_)) {
    const int64_t in = linear->weight.size(1), out = linear->weight.size(0);
    const auto n = static_cast<double>(in);
    plan.needs[linear->site].second_moment = true;
    cost.operations += 4 * static_cast<double>(out) * n * n;
    cost.bytes = std::max(cost.bytes, kMatrices * in * in * static_cast<int64_t>(sizeof(double)));
    if (!sites.insert(linear->site).second) continue;
    cost.operations += 2 * static_cast<double>(calibration_tokens) * n * n + n * n * n / 3;
  }
  plan.costs.push_back(cost);
}

SublayerPlan BlockPass::plan(Sublayer& sublayer, int64_t calibration_tokens, BlockPlan& block) const {
  SublayerPlan result;
  const std::vector<Pass> passes = calibration_tokens > 0 ? plan_passes(sublayer) : std::vector<Pass>();
  for (const Pass& pass : passes) {
    ++result.passes;
    for (const auto& [site, needs] : pass.needs) result.needs[site].merge(needs);
  }
  for (const NamedStep& step : steps_) {
    PlanContext context{skip_, block.remarks, block.warnings, calibration_tokens};
    step.step->plan(sublayer, context);
    result.costs.push_back(context.cost);
    block.at_most = block.at_most || context.at_most;
    if (recipe_.feedback.is_on() && step.kind == StepKind::kWeightRounding && calibration_tokens > 0)
      plan_feedback(sublayer, *step.step, calibration_tokens, result);
  }
  return result;
}

BlockPlan BlockPass::plan(Block& block, int64_t calibration_tokens) const {
  BlockPlan result;
  for (Sublayer& sublayer : block.sublayers())
    result.sublayers.push_back(plan(sublayer, calibration_tokens, result));
  return result;
}

// Site after site, each rounded for what those before it have become. Those of the experts of a mixture are
// taken together, for none of them lies behind another.
void BlockPass::round_with_feedback(const Step& step, Sublayer& sublayer, const Streams& streams,
                                    StepContext& context) const {
  const std::vector<Linear*> linears = step.linears_to_round(sublayer, skip_);
  std::vector<std::vector<std::string>> stages;
  std::vector<std::string> others;  // sites whose readers all stay in float
  bool behind_router = false;
  for (const Site* site : sublayer.sites()) {
    const bool reads = std::ranges::any_of(linears, [&](const Linear* l) { return l->site == site->name; });
    if (!reads) {
      others.push_back(site->name);
      continue;
    }
    if (!behind_router || !site->routed) stages.emplace_back();
    stages.back().push_back(site->name);
    behind_router = site->routed;
  }
  if (stages.empty()) stages.emplace_back();
  for (size_t i = 0; i < stages.size(); ++i) {
    std::vector<std::string>& stage = stages[i];
    const auto moments = pair_moments(*context.rewritten, streams.floats.calibrated(), sublayer,
                                      streams.rounded.hidden(), stage, streams.calibrated, context.processes);
    for (const auto& [site, pair] : moments) {
      context.statistics[site].second_moment = SecondMoment(pair.moment);
      add_feedback(linears, site, pair, *context.target);
    }
    if (i == 0) stage.insert(stage.end(), others.begin(), others.end());  // what stays in float is said too
    context.sites = &stage;
    step.apply(sublayer, context);
  }
  context.sites = nullptr;
}

void BlockPass::add_feedback(const std::vector<Linear*>& linears, const std::string& site,
                             const PairMoments& pair, Sublayer& target) const {
  if (!pair.shift.defined()) return;
  const ErrorFeedback shifted(pair.moment, pair.shift, recipe_.feedback.strength, recipe_.feedback.damping);
  const std::vector<Linear*> targets = target.linears();
  for (Linear* linear : linears) {
    if (linear->site != site) continue;
    const Tensor W = shifted(linear->weight.values());
    linear->weight.set(W);
    (*std::ranges::find(targets, linear->name, &Linear::name))->weight.set(W);
  }
}

void BlockPass::apply(Block& block, Streams& streams, StageTimes& times, Report& report,
                      Processes& processes) const {
  const Stream& stream = streams.floats;
  const bool measures = processes.is_first(), has_windows = measures && !stream.empty();
  const Tensor inputs = has_windows ? measured_windows(stream.held_out()).clone() : Tensor();
  for (Sublayer& sublayer : block.sublayers()) apply(sublayer, streams, times, report, processes);
  if (!measures) return;
  const StageTimer timer(times, "measure");
  measure_block(block, inputs, has_windows ? stream.held_out() : Tensor(), report);
}

void BlockPass::apply(Sublayer& sublayer, Streams& streams, StageTimes& times, Report& report,
                      Processes& processes) const {
  Stream& stream = streams.floats;
  const bool measures = processes.is_first(), has_windows = measures && !stream.empty();
  const bool feeds_back = recipe_.feedback.is_on();
  Remarks remarks;
  std::map<std::string, CorrectionRow> corrections;
  std::vector<std::string> warnings;
  const Tensor inputs = has_windows ? stream.held_out().clone() : Tensor();
  const Tensor probe =
      has_windows ? inputs.slice(0, 0, 1).slice(1, 0, kProbeTokens) : random_states(stream.d_model(), seed_);
  Tensor before;
  if (measures && num_rewrites_ > 0) {
    before = probe.clone();
    advance(sublayer, before);  // throws if the float model overflows, before a rewrite is blamed for it
  }
  const std::vector<Pass> passes = stream.empty() ? std::vector<Pass>() : plan_passes(sublayer);
  auto pass = passes.begin();
  Statistics statistics;
  Tensor outputs;
  Sublayer rewritten, target;  // what it was before it was rounded; what it is rounded to, with feedback
  for (size_t i = 0; i <= steps_.size(); ++i) {
    if (pass != passes.end() && pass->before == i) {
      const StageTimer timer(times, "calibrate");
      const bool last = pass + 1 == passes.end();
      merge(statistics, run_pass(sublayer, pass->needs, streams, last && !feeds_back, processes));
      if (last && measures) outputs = feeds_back ? outputs_of(sublayer, inputs) : stream.held_out();
      ++pass;
    }
    if (i == num_rewrites_) {
      rewritten = sublayer.clone();
      if (feeds_back) target = sublayer.clone();
    }
    if (i == steps_.size()) break;
    const bool rewrites = i < num_rewrites_;
    const StageTimer timer(times, steps_[i].name);
    StepContext context{statistics,
                        rewrites ? probe : inputs,
                        rewrites ? before : outputs,
                        skip_,
                        remarks,
                        seed_,
                        rewrites ? nullptr : &rewritten,
                        rewrites     ? nullptr
                        : feeds_back ? &target
                                     : &rewritten,
                        &corrections,
                        &warnings,
                        nullptr,
                        processes};
    if (feeds_back && steps_[i].kind == StepKind::kWeightRounding)
      round_with_feedback(*steps_[i].step, sublayer, streams, context);
    else
      steps_[i].step->apply(sublayer, context);
    if (rewrites && measures) expect_same_output(steps_[i].name, sublayer, probe, before);
  }
  for (Weight* weight : sublayer.weights()) {
    weight->round_to_stored_dtype();
    if (num_rewrites_ > 0) expect_finite(*weight);  // others were checked when they were read
  }
  if (feeds_back) {
    const StageTimer timer(times, "calibrate");
    stream.advance(rewritten, nullptr);
    streams.rounded.advance(sublayer, nullptr);
  }
  if (measures) {
    const StageTimer timer(times, "measure");
    measure_sublayer(rewritten, sublayer, inputs, statistics, corrections, report);
  }
  count_routed(sublayer, statistics, streams.calibrated.windows, stream.empty() ? 0 : stream.length(),
               remarks, report);
  say_once(warnings, report.warnings);
  append(report.fallbacks, remarks.fallbacks);
  append(report.decisions, remarks.decisions);
}

}  // namespace ptq
