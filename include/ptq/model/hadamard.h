// Hadamard rotations of any size: which matrix, and how to apply it.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>

#include "ptq/base/json.h"

namespace ptq {

using at::Tensor;

// An orthogonal matrix H of size n, symmetric or not, as num_blocks equal blocks of (left (x) Sylvester) /
// sqrt(block).
struct Hadamard {
  int64_t size = 0;   // n
  int64_t block = 0;  // m * 2^k, divides n; == n unless no Hadamard matrix of a supported form has size n
  Tensor left;        // [m, m] of +1 and -1, float32
  std::string construction;  // "sylvester", "paley1(q=11)", ...: what the artifact records

  // H x along the last dimension. x [..., n]. Cost n log2(n / m) + n m a row. Of the rows of a weight W it
  // makes W H^T, and (W H^T)(H x) = W x, as H^T H = 1.
  Tensor apply(const Tensor& x) const;
  // H^T x along the last dimension: the inverse of apply().
  Tensor apply_inverse(const Tensor& x) const;
  // {"size":, "block":, "m":, "construction":}: enough to make it again.
  Json to_json() const;
};

// The Hadamard matrix of size n: the smallest m of 1, 12, 20, 28 for which n / m is a power of two, by
// Sylvester's and Paley's constructions (12 and 20: the first with q = 11 and 19; 28: the second with q =
// 13). For any other n, the largest block of such a size that divides n, repeated.
Hadamard make_hadamard(int64_t n);

// The Hadamard matrix of size `block`, repeated over n. Throws a usage Error if block does not divide n, or
// if there is no matrix of a supported form.
Hadamard make_block_hadamard(int64_t n, int64_t block);

// Rebuilds what to_json() wrote. Throws Error if the construction is not known or does not give the recorded
// sizes.
Hadamard hadamard_from_json(const Json& json, const std::string& where);

}  // namespace ptq
