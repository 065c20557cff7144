#include "pipeline/block_pass.h"

#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>

#include "pipeline/measure.h"
#include "pipeline/opening.h"
#include "ptq/base/error.h"
#include "ptq/calibration/stream.h"

namespace ptq {
namespace {

// A rewrite is exact in real numbers; in float32 it may move the output by rounding, far less than this.
constexpr double kRewriteTolerance = 1e-3;
constexpr int64_t kProbeTokens = 128;  // that it is checked on

void expect_same_output(const std::string& step, const Block& block, const Tensor& input,
                        const Tensor& before) {
  const Tensor after = block.forward(input);
  const double size = std::max((before - input).norm().item<double>(), 1e-30);
  const double error = (after - before).norm().item<double>() / size;
  if (!(error < kRewriteTolerance)) {
    throw Error(block.prefix(),
                "the step \"" + step + "\" changed the block's output by a relative " +
                    format_number(error, 6) + "; it must leave it as it was",
                "", ExitCode::kBug);
  }
}

// A rewrite may have moved a weight past the range of the dtype that it is stored in.
void expect_finite(const Weight& weight) {
  if (weight.quantized || at::isfinite(weight.value).all().item<bool>()) return;
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

// Measures the rows calibrated on; the last pass of a block moves all rows past it.
Statistics run_pass(Block& block, const Needs& needs, Stream& stream, bool last) {
  const int64_t calibrated = stream.calibration_rows();
  Tensor rows = stream.hidden.slice(0, 0, calibrated);
  Statistics statistics;
  {
    const ObserverGuard guard(block, needs, calibrated);
    if (last) {
      advance(block, rows);
    } else {
      run_block(block, rows);
    }
    statistics = guard.statistics();
  }
  Tensor rest = stream.hidden.slice(0, calibrated);
  if (last && rest.size(0) > 0) advance(block, rest);
  return statistics;
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

bool BlockPass::needs_data(Block& block) const {
  return std::any_of(steps_.begin(), steps_.end(),
                     [&](const NamedStep& step) { return !step.step->needs(block).empty(); });
}

// What a rewrite measures itself takes a pass before it, for it changes what later steps see; all roundings
// share one. Samples and second moments follow a site through rewrites, so the first pass gathers them for
// all steps. A DuQuant run thus needs one pass, a static one with smoothing two.
std::vector<BlockPass::Pass> BlockPass::plan_passes(Block& block) const {
  std::vector<Pass> passes;
  Needs carried;
  size_t deadline = steps_.size();  // the first step that looks at something carried
  for (size_t i = 0; i < steps_.size(); ++i) {
    const size_t before = std::min(i, num_rewrites_);
    for (const auto& [site, needs] : steps_[i].step->needs(block)) {
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

BlockPlan BlockPass::plan(Block& block, int64_t calibration_tokens) const {
  BlockPlan result;
  const std::vector<Pass> passes = calibration_tokens > 0 ? plan_passes(block) : std::vector<Pass>();
  for (const Pass& pass : passes) {
    ++result.passes;
    for (const auto& [site, needs] : pass.needs) result.needs[site].merge(needs);
  }
  for (const NamedStep& step : steps_) {
    PlanContext context{skip_, result.remarks, result.warnings, calibration_tokens};
    step.step->plan(block, context);
    result.costs.push_back(context.cost);
    result.at_most = result.at_most || context.at_most;
  }
  return result;
}

void BlockPass::apply(Block& block, Stream& stream, StageTimes& times, Report& report) const {
  Remarks remarks;
  std::map<std::string, CorrectionRow> corrections;
  std::vector<std::string> warnings;
  const Tensor inputs = stream.empty() ? Tensor() : stream.kept_rows().clone();
  const Tensor probe =
      stream.empty() ? random_states(stream.width, seed_) : inputs.slice(0, 0, 1).slice(1, 0, kProbeTokens);
  Tensor before;
  if (num_rewrites_ > 0) {
    before = probe.clone();
    advance(block, before);  // throws if the float model overflows, before a rewrite is blamed for it
  }
  const std::vector<Pass> passes = stream.empty() ? std::vector<Pass>() : plan_passes(block);
  auto pass = passes.begin();
  Statistics statistics;
  Tensor outputs;
  std::unique_ptr<Block> rewritten;
  for (size_t i = 0; i <= steps_.size(); ++i) {
    if (pass != passes.end() && pass->before == i) {
      const StageTimer timer(times, "calibrate");
      const bool last = pass + 1 == passes.end();
      merge(statistics, run_pass(block, pass->needs, stream, last));
      if (last) outputs = stream.kept_rows();
      ++pass;
    }
    if (i == num_rewrites_) rewritten = block.clone();
    if (i == steps_.size()) break;
    const bool rewrites = i < num_rewrites_;
    const StageTimer timer(times, steps_[i].name);
    StepContext context{statistics,
                        rewrites ? probe : inputs,
                        rewrites ? before : outputs,
                        skip_,
                        remarks,
                        seed_,
                        rewritten.get(),
                        &corrections,
                        &warnings};
    steps_[i].step->apply(block, context);
    if (rewrites) expect_same_output(steps_[i].name, block, probe, before);
  }
  for (Weight* weight : block.weights()) {
    weight->settle();
    if (num_rewrites_ > 0) expect_finite(*weight);  // others were checked when they were read
  }
  {
    const StageTimer timer(times, "measure");
    measure_block(*rewritten, block, inputs, outputs, statistics, corrections, report);
  }
  say_once(warnings, report.warnings);
  append(report.fallbacks, remarks.fallbacks);
  append(report.decisions, remarks.decisions);
}

}  // namespace ptq
