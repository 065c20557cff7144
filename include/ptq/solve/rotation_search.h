// Rotations and the permutation of DuQuant (arXiv 2406.01721, sections 3.2 and 3.3), as functions on tensors.
//
// A rotation R [B, B] acts on every block of B consecutive channels: x [T, C] is read as rows [T C / B, B],
// and each becomes row R.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

namespace ptq {

using at::Tensor;

// The orthogonal matrix of Helmert with its rows and columns 0 and n - 1 exchanged: row 0 is 1/sqrt(n)
// everywhere, so an outlier in channel 0 is spread evenly. Any n of at least 1. [n, n] float64
Tensor helmert(int64_t n);

// Uniform among the orthogonal matrices: Q of the QR decomposition of a normal matrix drawn from the seed,
// with signs chosen so that the diagonal of R is positive. The same bits for any number of threads. [n, n]
// float64, n may be 0.
Tensor random_orthogonal(int64_t n, uint64_t seed);

// helmert(block) diag(1, Q), with Q [block - 1, block - 1]: what the greedy search repeats. [block, block]
// float64
Tensor rotation_base(int64_t block, const Tensor& Q);

// The permutation that gives every block as many large channels as the others: channels in descending order
// of their maxima [C] (stable) are dealt to the K = C / block blocks 0, 1, ..., K-1, K-1, ..., 1, 0, 0, 1,
// ... It is a gather: new channel i is old channel result[i]. [C] int64. Throws Error if block does not
// divide C.
Tensor zigzag(const Tensor& channel_abs_max, int64_t block);

struct GreedyOptions {
  enum class Peak {
    kMagnitude,  // the largest |value|: the paper
    kRange,      // the largest less the smallest value: the authors' code
  };
  int64_t steps = 256;  // at most; 0 leaves everything as it is
  Peak peak = Peak::kMagnitude;
};

struct GreedyRotation {
  Tensor R;           // [B, B] float64, the product of the steps used; round it once, to what is stored
  int64_t steps = 0;  // used: up to the first smallest peak
  double peak_before = 0;
  double peak_after = 0;
  std::vector<int64_t> swaps;  // [steps] the channel within the block that each step exchanged with channel 0
};

// The greedy search for a rotation with a small peak. A step finds the entry of largest magnitude of x R
// (equal ones: the minimum before the maximum, then the first), d = its channel within the block, and
// multiplies R by `base` [B, B] with rows and columns 0 and d exchanged. The product that is kept ends at the
// first step with the smallest peak.
//   x [T, C] float32, finite, any device; the search runs on the CPU
// The result is that of plain arithmetic in float64, R by R: the same bits for any number of threads and any
// PTQ_ISA. Peaks that differ by rounding only (1e-12) count as equal. Throws Error if block does not divide
// C, base is not orthogonal, or x holds nothing or a value that is not finite.
GreedyRotation greedy_rotation(const Tensor& x, int64_t block, const Tensor& base,
                               const GreedyOptions& options = {});

}  // namespace ptq
