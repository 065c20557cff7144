// Weights that take the rounding of their inputs into account.
#pragma once

#include <ATen/ATen.h>

namespace ptq {

using at::Tensor;

// The map P [in, in] for which W' = W P makes x_rounded W'^T closest to x W^T in the mean square, for every W
// at once:
//   P = (X^T X^ + damping) (X^^T X^ + damping)^-1, with X = x and X^ = x_rounded [tokens, in]
// damping is a multiple of the mean of the diagonal of X^^T X^; it draws P towards 1 where the samples say
// little. float32 result; products in float32, the solution in float64. On CPUs the same bits for any number
// of threads. Throws Error if the damped moment is not positive definite. Cost: two products of tokens x in^2
// and one Cholesky solution of in^3.
Tensor compensation(const Tensor& x, const Tensor& x_rounded, double damping);

}  // namespace ptq
