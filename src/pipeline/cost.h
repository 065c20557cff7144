// What a run costs, estimated from shapes: memory at its peak, and operations of floating point.
#pragma once

#include <cstdint>

#include "pipeline/block_pass.h"
#include "ptq/model/model.h"

namespace ptq {

// The rows that go through the blocks; none in a run without data.
struct RunRows {
  int64_t rows = 0, length = 0, kept = 0;  // of calibration
  bool self_written = false;
  int64_t eval_windows = 0, eval_length = 0;  // of --eval-text; 0: quality is measured on the rows kept aside
};

class RunCost {
 public:
  // `model` must outlive it.
  RunCost(Model& model, const RunRows& rows);

  // Blocks in order, as BlockPass::plan() left them.
  void add(Block& block, const BlockPlan& plan);

  // Multiplications and additions, two for each weight and token.
  double operations() const { return operations_ + text_operations_; }
  // Of resident memory.
  int64_t peak_bytes() const;

 private:
  double forward_operations(Block& block, int64_t rows, int64_t length) const;

  Model& model_;
  RunRows rows_;
  double operations_ = 0;
  double text_operations_ = 0;  // of the model writing its own text, and of the head
  int64_t outer_values_ = 0;    // weights around the blocks
  int64_t all_values_ = 0;      // weights of all blocks
  int64_t state_values_ = 0;    // of all blocks, for one row
  int64_t block_bytes_ = 0;     // at the peak of the largest block
  int64_t forward_bytes_ = 0;   // of one batch through the largest block, its weights included
};

}  // namespace ptq
