// A linear layer in whichever form its weight and input have.
#pragma once

#include <optional>
#include <string>

#include "ptq/model/site.h"
#include "ptq/model/weight.h"

namespace ptq {

struct Linear {
  std::string name;            // "backbone.layers.0.mixer.in_proj": the weight's name without ".weight"
  std::string site;            // the Site its input comes from
  Weight weight;               // [out, in]
  std::optional<Weight> bias;  // [out]
  int min_bits = 2;            // the strongest compression the layer bears

  // y [batch, length, out] = x W^T + bias.
  //   float input: one float32 product with the weight's float values
  //   codes, and a weight in codes: the integer product, exact (bit-equal to int32 arithmetic), then one
  //   float32
  //     multiplication by activation scale * weight scale
  //   codes, and a float weight: the codes are dequantized first
  Tensor operator()(const Activation& x) const;
};

// a [rows, k] times b [n, k], transposed: the exact integers of the product of integer matrices that are held
// in float32, as float64 if they may pass 2^24 and float32 else. |a|, |b| at most `a_bound`, `b_bound`.
Tensor exact_matmul(const Tensor& a, const Tensor& b, int64_t a_bound, int64_t b_bound);

}  // namespace ptq
