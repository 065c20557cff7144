// Weights as integer codes and scales, and the rounding that makes them.
#pragma once

#include <ATen/ATen.h>

#include "ptq/codec/scheme.h"

namespace ptq {

using at::Tensor;

struct QuantizedTensor {
  Tensor codes;  // int8, the shape of the weight; WeightScheme::format says what they stand for
  Tensor scale;  // float32: [1], [out, 1], or [out, ceil(in / group)]
  Tensor zero;   // int8, the shape of `scale`; undefined if the scheme is symmetric
  WeightScheme scheme;
};

// Where codes lie on the number line.
struct WeightGrid {
  Tensor scale;  // as in QuantizedTensor
  Tensor zero;
};

// The grid of every tensor, row or group of w [out, ...] (more than two dimensions are flattened to two),
// from its range shrunk by `clip`: a factor in (0, 1] for each scale ([1], or the shape of `scale`), 1 if
// undefined.
//   symmetric   scale = clip amax / high, and clip amax * 2 / (2^bits - 1) for groups, which puts the extreme
//               half a step outside the range on its positive side and costs less in the middle
//   asymmetric  DuQuant's (arXiv 2406.01721, appendix): mx = clip max(w, 0), mn = clip min(w, 0),
//               scale = (mx - mn) / (2^bits - 1), zero = round_half_even(-mn / scale), which lies among the
//               2^bits codes, less 2^(bits - 1)
//   The authors' floors of 1e-5, on clip amax or on the asymmetric scale, stand for zeros only: small weights
//   are worth no less than large ones. A float32 scale is at least 2^-126. Where float16 makes a scale 0, all
//   codes and the zero point are 0; see half_scales_hold().
//   With `plain_scales` groups have clip amax / high, or an asymmetric scale, and a scale of 0 for zeros.
//   MXINT       scale = 2^(e - bits + 2), e the exponent of clip amax, at least -126
//   NF4         scale = clip amax
// float32 arithmetic.
WeightGrid weight_grid(const Tensor& w, const WeightScheme& scheme, const Tensor& clip = {});

// Whether float16 holds the scales that w would have under `scheme`: none is past its range, and of those
// below it, which lose digits, a layer has no more than a hundredth of its energy. True if the scheme stores
// no float16 scales.
bool half_scales_hold(const Tensor& w, const WeightScheme& scheme);

// Codes of w on a given grid: clamp(round_half_even(w / scale) + zero). float32 arithmetic. MXINT: |w| below
// 2^-126 has code 0. NF4: the nearest value of the table, the lower one on a tie; code 7, which is 0, where
// the scale is 0.
QuantizedTensor round_on_grid(const Tensor& w, const WeightGrid& grid, const WeightScheme& scheme);

// weight_grid, then round_on_grid.
QuantizedTensor round_to_nearest(const Tensor& w, const WeightScheme& scheme, const Tensor& clip = {});

// code - zero, float32, in the shape of the codes: the integers that a product is made of. |value| <=
// centered_bound(scheme). REQUIRES: scheme.is_linear().
Tensor centered_codes(const QuantizedTensor& q);
int64_t centered_bound(const WeightScheme& scheme);

// The values that the codes stand for, float32, in their shape.
Tensor dequantize(const QuantizedTensor& q);

// 10 log10(sum reference^2 / sum (reference - approximation)^2), in float64, for values of any magnitude;
// +infinity if they are equal, and -infinity if only the reference is zero.
double sqnr_db(const Tensor& reference, const Tensor& approximation);

}  // namespace ptq
