// GPTQ (arXiv 2210.17323): rounding that makes up for the error of each column in the columns that follow.
#pragma once

#include <ATen/ATen.h>

#include "ptq/codec/quantized_tensor.h"

namespace ptq {

constexpr int kGptqClips = 7;  // factors that `search_clips` tries
// Rows of W that begin at a multiple of so many may be rounded apart from the others, to the same bits; not
// where one scale a tensor is made.
constexpr int64_t kGptqRows = 64;

struct GptqOptions {
  double damping = 0.01;  // of the mean of M's diagonal, added to its diagonal
  int64_t block = 64;     // columns that are rounded before the later ones hear of it; changes speed only
  // Columns with the largest M_jj first, while there are many others left to make up for them.
  bool order_by_activation = false;
  Tensor clip = {};  // as in weight_grid, for the grids that gptq makes itself
  // Instead of `clip`: each row is rounded with the factors 1, 0.95 ... 0.7 for all its scales, and what is
  // kept leaves the least e M e^T, with the damped M. A group that makes its grid on the way chooses its own,
  // by what it adds to that. Of equal ones the largest factor. Ignored where a grid is given; not for one
  // scale a tensor.
  bool search_clips = false;
};

// Rounds W so that e M e^T is small for the error e of each row.
//   W     [out, in] float32
//   M     [in, in] float64 or float32: the second moment E[x^T x] of what W reads
//   grid  where the codes lie. Undefined: made from W; with groups, unless order_by_activation is set, each
//         group's from its weights as they are when the group is reached, with what makes up for the columns
//         before it.
// A channel that is always 0 (M_jj = 0) gets the code of 0. On CPUs, the same bits for any number of threads.
// Throws Error if M is not positive definite even with 100 times the damping.
// Cost: (out in^2) / 2 + in^3 / 6 multiplications, the former seven times for clips searched by row;
// gptq_bytes() of memory.
QuantizedTensor gptq(const Tensor& W, const Tensor& M, const WeightGrid& grid, const WeightScheme& scheme,
                     const GptqOptions& options = {});

// About how many bytes gptq() needs at most beside W [out, in] and M, on so many threads.
int64_t gptq_bytes(int64_t out, int64_t in, const GptqOptions& options, int threads);

}  // namespace ptq
