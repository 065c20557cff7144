// Orthogonal maps of a site's channels, applied online to what arrives and once to the weights that read it.
#pragma once

#include <ATen/ATen.h>

#include <string>
#include <variant>
#include <vector>

#include "ptq/model/hadamard.h"

namespace ptq {

// x [..., C] -> x R on every block of B consecutive channels.
struct BlockRotation {
  Tensor R;           // [B, B] float32, orthogonal
  int64_t steps = 0;  // of the search that found it; for the report
};

// A gather: y[..., i] = x[..., index[i]].
struct Permutation {
  Tensor index;  // [C] int64
};

// A diagonal of +1 and -1.
struct Signs {
  Tensor values;  // [C] float32
};

using TransformOp = std::variant<Signs, Hadamard, BlockRotation, Permutation>;

// The product T of stages, in the order in which they are applied: x -> x T. T is orthogonal, so a weight W
// [out, C] that reads x becomes W T, by the same map on its rows: (W T)(x T)^T = W x^T.
struct Transform {
  std::vector<TransformOp> stages;

  bool empty() const { return stages.empty(); }
  // x T for x [..., C], float32; x itself if there is no stage. Cost a value: log2(block) additions for a
  // Hadamard stage, 2 B operations for a rotation of B, one read and write for the others.
  Tensor apply(const Tensor& x) const;
  // x T^T = x T^-1.
  Tensor apply_inverse(const Tensor& x) const;
  // True if x [..., channels] can be transformed. A Hadamard stage is repeated if it is shorter.
  bool fits(int64_t channels) const;
  // max |T T^T - 1| over its stages: how far rounding has left the rotations. NaN if one is not finite.
  double orthogonality_error() const;
};

// "signs, hadamard(64), permutation, rotation(64)".
std::string transform_text(const Transform& transform);

// x T for one stage.
Tensor apply_op(const TransformOp& stage, const Tensor& x);

}  // namespace ptq
