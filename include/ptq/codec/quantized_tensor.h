// Weights as integer codes and scales, and the rounding that makes them.
#pragma once

#include <ATen/ATen.h>

#include "ptq/codec/scheme.h"

namespace ptq {

using at::Tensor;

struct QuantizedTensor {
  Tensor codes;  // int8, the shape of the weight
  Tensor scale;  // float32: [1], [out, 1], or [out, ceil(in / group)]
  WeightScheme scheme;
};

// The scale of every tensor, row or group of w [out, ...] (more than two dimensions are flattened to two),
// from its largest magnitude: amax / high, and amax * 2 / (2^bits - 1) for groups, which puts the extreme
// half a step outside the range on its positive side and costs less in the middle. amax is at least 1e-5.
Tensor weight_scales(const Tensor& w, const WeightScheme& scheme);

// Codes of w under given scales: clamp(round_half_even(w / scale)). float32 arithmetic.
QuantizedTensor round_with_scales(const Tensor& w, const Tensor& scale, const WeightScheme& scheme);

// weight_scales, then round_with_scales.
QuantizedTensor round_to_nearest(const Tensor& w, const WeightScheme& scheme);

// code * scale, float32, in the shape of the codes.
Tensor dequantize(const QuantizedTensor& q);

// Two 4-bit codes a byte: [out, in] int8 in [-8, 7] -> uint8 [out, ceil(in / 2)]; element 2k is the low
// nibble, a stored nibble is code + 8; the unused nibble of an odd row is 0. Persistent: this is the layout
// on disk.
Tensor pack_int4(const Tensor& codes);
// The inverse; `in` is the number of columns.
Tensor unpack_int4(const Tensor& packed, int64_t in);

// 10 log10(sum reference^2 / sum (reference - approximation)^2), in float64; +infinity if they are equal, and
// -infinity if only the reference is zero.
double sqnr_db(const Tensor& reference, const Tensor& approximation);

}  // namespace ptq
