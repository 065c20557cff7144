// The arithmetic of formats whose codes are not plain integers: MXINT and NF4.
#pragma once

#include <ATen/ATen.h>

namespace ptq {

using at::Tensor;

inline constexpr float kSmallestNormal = 0x1p-126F;

// 2^(e - bits + 2) for the exponent e of every largest magnitude, at least -126; float32, the shape of amax.
Tensor mxint_scale(const Tensor& amax, int bits);

// The code of each x in [-1, 1]: the nearest value of NF4's table, the lower one on a tie. int8.
Tensor nf4_codes(const Tensor& x);
// table[code], float32.
Tensor nf4_values(const Tensor& codes);

}  // namespace ptq
