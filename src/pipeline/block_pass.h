// Takes one block through a recipe's steps.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "pipeline/stages.h"
#include "ptq/method/recipe.h"
#include "ptq/report/report.h"
#include "ptq/step/step.h"

namespace ptq {

// How many of `rows` rows are calibrated on, the last `kept` being kept aside. A run with a single row, or
// with no need of data, calibrates on the rows it measures on.
inline int64_t rows_calibrated_on(int64_t rows, int64_t kept) {
  return kept < rows ? rows - kept : rows;
}

// The hidden states of all calibration rows, on their way from block to block; undefined in a run without
// data.
struct Stream {
  Tensor hidden;      // [rows, length, d_model]
  int64_t kept = 0;   // the last so many rows are kept aside: not calibrated on
  int64_t width = 0;  // d_model

  bool empty() const { return !hidden.defined(); }
  int64_t rows() const { return hidden.size(0); }
  int64_t calibration_rows() const { return rows_calibrated_on(rows(), kept); }
  Tensor kept_rows() const { return hidden.slice(0, rows() - kept); }
};

// What the steps will do to one block.
struct BlockPlan {
  Remarks remarks;
  std::vector<std::string> warnings;
  std::vector<StepCost> costs;  // one a step
  Needs needs;                  // of all passes together
  int64_t passes = 0;           // of the calibration rows through the block
  bool at_most = false;         // a choice by values may store less
};

class BlockPass {
 public:
  // `recipe` must outlive it.
  BlockPass(const Recipe& recipe, uint64_t seed);

  // True if any step looks at activations: if not, rows serve only for measuring, and a run may have none.
  bool needs_data(Block& block) const;

  // Leaves a block on the meta device as apply() would leave it, but for values. Throws the Errors that
  // shapes show.
  BlockPlan plan(Block& block, int64_t calibration_tokens) const;

  // Throws a usage Error if a pattern in a step's options matches none of the tensors `names`.
  void check_patterns(const std::vector<std::string>& names) const;

  // Rewrites and rounds the block, moves the stream past it (as the float block would), and adds its rows to
  // the report; of an empty stream those have what the weights alone tell. REQUIRES: a stream, if
  // needs_data(). Throws Error if a rewrite changed the block's output, or if an activation or a weight is
  // not finite.
  void apply(Block& block, Stream& stream, StageTimes& times, Report& report) const;

 private:
  struct NamedStep {
    std::string name;
    StepKind kind;
    std::unique_ptr<Step> step;
  };
  // One run of all rows through the block: before which step, and what it measures.
  struct Pass {
    size_t before = 0;
    Needs needs;
  };
  std::vector<Pass> plan_passes(Block& block) const;

  const Recipe& recipe_;
  uint64_t seed_;
  std::vector<NamedStep> steps_;  // as the recipe lists them; rewrites come first
  size_t num_rewrites_ = 0;
  std::function<bool(const std::string&)> skip_;
};

}  // namespace ptq
