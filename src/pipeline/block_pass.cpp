#include "pipeline/block_pass.h"

#include <algorithm>

#include "pipeline/measure.h"
#include "ptq/base/error.h"
#include "ptq/calibration/stream.h"

namespace ptq {
namespace {

// A rewrite is exact in real numbers; in float32 it may move the output by rounding, far less than this.
constexpr double kRewriteTolerance = 1e-3;

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

// One pass over all rows: the statistics of the rows calibrated on, and the stream moved past the block.
Statistics observe_and_advance(Block& block, const Needs& needs, Stream& stream) {
  const int64_t calibrated = stream.calibration_rows();
  Statistics statistics;
  {
    const ObserverGuard guard(block, needs, calibrated);
    Tensor rows = stream.hidden.slice(0, 0, calibrated);
    advance(block, rows);
    statistics = guard.statistics();
  }
  Tensor rest = stream.hidden.slice(0, calibrated);
  if (rest.size(0) > 0) advance(block, rest);
  return statistics;
}

}  // namespace

BlockPass::BlockPass(const Recipe& recipe) : recipe_(recipe) {
  for (const StepConfig& config : recipe.steps) {
    const StepEntry& entry = find_step(config.name, recipe.method);
    JsonFields options(config.options, recipe.method + "." + config.name);
    steps_.push_back({config.name, entry.kind, entry.make(options)});
  }
  skip_ = [this](const std::string& name) {
    return std::any_of(recipe_.skip.begin(), recipe_.skip.end(), [&](const std::string& pattern) {
      return matches_pattern(pattern, name) || matches_pattern(pattern, name + ".weight");
    });
  };
}

Needs BlockPass::needs_of(StepKind kind, Block& block) const {
  Needs all;
  for (const NamedStep& step : steps_) {
    if (step.kind != kind) continue;
    for (const auto& [site, needs] : step.step->needs(block)) all[site].merge(needs);
  }
  return all;
}

bool BlockPass::needs_data(Block& block) const {
  return !needs_of(StepKind::kRewrite, block).empty() || !needs_of(StepKind::kRounding, block).empty();
}

void BlockPass::rewrite(Block& block, const Stream& stream, StageTimes& times,
                        std::vector<Remark>& remarks) const {
  const auto is_rewrite = [](const NamedStep& step) { return step.kind == StepKind::kRewrite; };
  if (std::none_of(steps_.begin(), steps_.end(), is_rewrite)) return;
  const Tensor probe = stream.kept_rows().slice(0, 0, 1).clone();
  const Tensor before = block.forward(probe);
  for (const NamedStep& step : steps_) {
    if (!is_rewrite(step)) continue;
    const StageTimer timer(times, step.name);
    const Needs needs = step.step->needs(block);
    Statistics statistics;
    if (!needs.empty()) {
      // A rewrite that looks at activations costs a pass of its own: it changes what the steps after it see.
      const ObserverGuard guard(block, needs, stream.calibration_rows());
      run_block(block, stream.hidden.slice(0, 0, stream.calibration_rows()));
      statistics = guard.statistics();
    }
    StepContext context{statistics, probe, before, skip_, remarks};
    step.step->apply(block, context);
    expect_same_output(step.name, block, probe, before);
  }
}

void BlockPass::apply(Block& block, Stream& stream, StageTimes& times, Report& report) const {
  std::vector<Remark> remarks;
  const Tensor inputs = stream.kept_rows().clone();
  rewrite(block, stream, times, remarks);
  const std::unique_ptr<Block> rewritten = block.clone();
  Statistics statistics;
  {
    const StageTimer timer(times, "calibrate");
    statistics = observe_and_advance(block, needs_of(StepKind::kRounding, block), stream);
  }
  const Tensor outputs = stream.kept_rows();
  for (const NamedStep& step : steps_) {
    if (step.kind != StepKind::kRounding) continue;
    const StageTimer timer(times, step.name);
    StepContext context{statistics, inputs, outputs, skip_, remarks};
    step.step->apply(block, context);
  }
  for (Weight* weight : block.weights()) weight->settle();
  {
    const StageTimer timer(times, "measure");
    measure_block(*rewritten, block, inputs, outputs, statistics, report);
  }
  for (Remark& remark : remarks) report.fallbacks.push_back({remark.where, remark.what, remark.why});
}

}  // namespace ptq
