// What a run costs, estimated from shapes: memory at its peak, and operations of floating point.
#pragma once

#include <cstdint>

#include "pipeline/block_pass.h"
#include "ptq/model/model.h"

namespace ptq {

// The windows that go through the blocks; none in a run without data.
struct RunWindows {
  int64_t windows = 0, length = 0;  // of calibration
  WindowSplit split = {};
  bool self_written = false;
  bool in_file = false;                       // hidden states do not stay in memory
  bool feedback = false;                      // there are those of the rounded model too
  int64_t eval_windows = 0, eval_length = 0;  // of --eval-text; 0: quality is measured on what is held out
  // Of several processes: `windows` and `split` are of one of them, which measures if it holds windows out.
  int64_t processes = 1;
  int64_t lanes = 0;  // of its windows
};

class RunCost {
 public:
  // `model` must outlive it.
  RunCost(Model& model, const RunWindows& windows);

  // Blocks in order, as BlockPass::plan() left them.
  void add(Block& block, const BlockPlan& plan);

  // Multiplications and additions, two for each weight and token.
  double operations() const { return operations_ + text_operations_; }
  // Of resident memory.
  int64_t peak_bytes() const;

 private:
  // Returns the bytes that the sublayer takes at its peak, besides the float block it lies in.
  int64_t add(Sublayer& sublayer, const SublayerPlan& plan);

  Model& model_;
  RunWindows windows_;
  double operations_ = 0;
  double text_operations_ = 0;  // of the model writing its own text, and of the head
  int64_t outer_values_ = 0;    // weights around the blocks
  int64_t all_values_ = 0;      // weights of all blocks
  int64_t state_values_ = 0;    // of all blocks, for one window
  int64_t block_bytes_ = 0;     // at the peak of the largest block
  int64_t largest_block_ = 0;   // bytes of its floats and codes
  int64_t forward_bytes_ = 0;   // of one batch's activations, in the largest sublayer
};

}  // namespace ptq
