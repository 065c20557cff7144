// What the DuQuant cases with a model share: the names of sites, and how steps are applied.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "duquant_cases.h"
#include "memory_source.h"
#include "ptq/step/step.h"

namespace ptq::golden {

// A site as the cases call it, and as the program does.
struct SiteName {
  const char* theirs;
  const char* ours;
};

inline constexpr SiteName kLinearSites[] = {
    {"qkv", "qkv.input"}, {"o", "o.input"}, {"gu", "gate_up.input"}, {"down", "down.input"}};

// Every value at most `tolerance` of itself away: stricter than Checks::near(), which measures by the
// largest.
inline void each_near(Checks& checks, const std::string& what, const Tensor& ours, const Tensor& expected,
                      double tolerance) {
  if (ours.sizes() != expected.sizes()) return checks.expect(false, what + ": another shape");
  const Tensor target = expected.to(at::kDouble);
  const Tensor off = (ours.to(at::kDouble) - target).abs();
  const auto bad = off.gt(target.abs() * tolerance).sum().item<int64_t>();
  checks.expect(bad == 0, what + ": " + std::to_string(bad) + " of " + std::to_string(ours.numel()) +
                              " differ, the worst by " + std::to_string(off.max().item<double>()));
}

inline std::unique_ptr<Step> make_step(const char* name, const Json& options) {
  JsonFields fields(options, name);
  return find_step(name, "golden").make(fields);
}

// Applies a step that looks at nothing but a sublayer and its statistics to all sublayers.
inline void apply_step(const char* name, const Json& options, Block& block, Statistics& statistics) {
  const std::function<bool(const std::string&)> skip_none = [](const std::string&) { return false; };
  const Tensor no_windows;
  Remarks remarks;
  StepContext context{statistics, no_windows, no_windows, skip_none, remarks};
  const std::unique_ptr<Step> step = make_step(name, options);
  for (Sublayer& sublayer : block.sublayers()) step->apply(sublayer, context);
}

// The options of DuQuant's smoothing, as the method gives them.
inline Json smooth_options(double alpha) {
  return {{"alpha", alpha}, {"floor", 1e-2}, {"columns", "first"}};
}

}  // namespace ptq::golden
