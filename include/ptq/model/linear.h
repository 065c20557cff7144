// A linear layer in whichever form its weight and input have.
#pragma once

#include <optional>
#include <string>

#include "ptq/model/site.h"
#include "ptq/model/weight.h"

namespace ptq {

// A low-rank term beside a rounded weight: y = x W^T + (x A^T) B^T.
struct LowRank {
  Tensor A;                               // [rank, in] float32: the values as they are stored
  Tensor B;                               // [out, rank]
  at::ScalarType stored = at::kBFloat16;  // dtype on disk; kChar: codes with scales
  Tensor A_scale, B_scale;                // [rank], kChar only: of the rows of A and the columns of B

  int64_t rank() const { return A.size(0); }
  // Bytes on disk.
  int64_t bytes() const;
  // B A, float32 [out, in].
  Tensor product() const { return B.matmul(A); }
};

// The factors rounded to the dtype they will be stored in: kBFloat16, kHalf, kFloat, or kChar for codes of 8
// bits with a scale for each row of A and each column of B. A [rank, in], B [out, rank], of any float dtype.
LowRank make_low_rank(const Tensor& A, const Tensor& B, at::ScalarType stored);

struct Linear {
  std::string name;            // "backbone.layers.0.mixer.in_proj": the weight's name without ".weight"
  std::string site;            // the Site its input comes from
  Weight weight;               // [out, in]
  std::optional<Weight> bias;  // [out]
  std::optional<LowRank> correction;
  int min_bits = 2;  // the strongest compression the layer bears
  // Other runtimes read the weight past the layer, in a fused kernel, so that nothing can be put beside it.
  bool fused_elsewhere = false;

  // y [batch, length, out] = x W^T + bias.
  //   float input: one float32 product with the weight's float values
  //   codes, and a weight in codes: the integer product, exact (bit-equal to int32 arithmetic), then one
  //   float32
  //     multiplication by activation scale * weight scale
  //   codes, and a weight that is float or in a format without a linear scale: the codes are dequantized
  //   first
  // A correction is computed in float32, on what the codes of the input stand for.
  Tensor operator()(const Activation& x) const;
};

// a [rows, k] times b [n, k], transposed: the exact integers of the product of integer matrices that are held
// in float32, as float64 if they may pass 2^24 and float32 else. |a|, |b| at most `a_bound`, `b_bound`.
Tensor exact_matmul(const Tensor& a, const Tensor& b, int64_t a_bound, int64_t b_bound);

}  // namespace ptq
