// Takes one block through a recipe's steps, sublayer by sublayer.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "pipeline/stages.h"
#include "ptq/calibration/pair_moments.h"
#include "ptq/calibration/site_sums.h"
#include "ptq/calibration/stream.h"
#include "ptq/method/recipe.h"
#include "ptq/report/report.h"
#include "ptq/step/step.h"

namespace ptq {

// What the steps will do to one sublayer.
struct SublayerPlan {
  std::vector<StepCost> costs;  // of the steps, and of error feedback
  Needs needs;                  // of all passes together
  int64_t passes = 0;           // of the calibrated windows through the sublayer
};

// What they will do to a block.
struct BlockPlan {
  std::vector<SublayerPlan> sublayers;
  Remarks remarks;
  std::vector<std::string> warnings;
  bool at_most = false;  // a choice by values may store less
};

// The hidden states of a run, of the windows that this process has.
struct Streams {
  Stream floats;   // as the float model has them
  Stream rounded;  // of the windows calibrated on, as the rounded model has them; empty without feedback
  Batches calibrated = {};  // the windows calibrated on, of all processes
};

class BlockPass {
 public:
  // `recipe` must outlive it.
  BlockPass(const Recipe& recipe, uint64_t seed);

  // True if any step looks at activations: if not, windows serve only for measuring, and a run may have none.
  // `model`: its values are not looked at. Throws a usage Error if a step's options name what no sublayer
  // has.
  bool needs_data(const Model& model) const;

  // Leaves a block on the meta device as apply() would leave it, but for values. Throws the Errors that
  // shapes show.
  BlockPlan plan(Block& block, int64_t calibration_tokens) const;

  // Throws a usage Error if a pattern in a step's options matches none of the tensors `names`.
  void check_patterns(const std::vector<std::string>& names) const;

  // Rewrites and rounds the block, one sublayer after the other, moves the streams past it, and adds its
  // rows to the report; of empty streams those have what the weights alone tell. The first stream moves as
  // the float block would; with feedback, `rounded` has the windows calibrated on, and moves as the rounded
  // block does. Every process leaves the block with the same weights; the first alone adds rows of what it
  // measured. REQUIRES: a stream, if needs_data(). Throws Error if a rewrite changed a sublayer's output, or
  // if an activation or a weight is not finite.
  void apply(Block& block, Streams& streams, StageTimes& times, Report& report,
             Processes& processes = one_process()) const;

 private:
  struct NamedStep {
    std::string name;
    StepKind kind;
    std::unique_ptr<Step> step;
  };
  // One run of all windows through a sublayer: before which step, and what it measures.
  struct Pass {
    size_t before = 0;
    Needs needs;
  };
  std::vector<Pass> plan_passes(Sublayer& sublayer) const;
  void plan_feedback(Sublayer& sublayer, const Step& step, int64_t calibration_tokens,
                     SublayerPlan& plan) const;
  SublayerPlan plan(Sublayer& sublayer, int64_t calibration_tokens, BlockPlan& block) const;
  void apply(Sublayer& sublayer, Streams& streams, StageTimes& times, Report& report,
             Processes& processes) const;
  void round_with_feedback(const Step& step, Sublayer& sublayer, const Streams& streams,
                           StepContext& context) const;
  // To those of the linears that read the site, and to the same ones of `target`.
  void add_feedback(const std::vector<Linear*>& linears, const std::string& site, const PairMoments& pair,
                    Sublayer& target) const;

  const Recipe& recipe_;
  uint64_t seed_;
  std::vector<NamedStep> steps_;  // as the recipe lists them; rewrites come first
  size_t num_rewrites_ = 0;
  std::function<bool(const std::string&)> skip_;
};

}  // namespace ptq
