// The ops in ATen operations: run on any device, and are what the CPU kernels are tested against.
// Same contract as include/ptq/ops/ops.h; an absent optional is an undefined tensor there.
#pragma once

#include <tuple>

#include "ops/checks.h"

namespace ptq::ops::fallback {

Tensor selective_scan(const Tensor& u, const Tensor& dt, const Tensor& A, const Tensor& B, const Tensor& C,
                      const Tensor& D, const Tensor& z, const OptionalTensor& h);
Tensor ssd_scan(const Tensor& u, const Tensor& dt, const Tensor& B, const Tensor& C, const Tensor& A,
                const Tensor& dt_bias, const Tensor& D, double delta_low, double delta_high, int64_t groups,
                const OptionalTensor& h);
Tensor causal_conv1d_silu(const Tensor& x, const Tensor& weight, const OptionalTensor& bias,
                          const OptionalTensor& window);
Tensor hadamard(const Tensor& x, const Tensor& left, int64_t block);
std::tuple<Tensor, Tensor> quantize_codes(const Tensor& x, const Tensor& scale, int64_t low, int64_t high);
Tensor round_to_codes(const Tensor& x, const Tensor& scale, int64_t low, int64_t high);
std::tuple<Tensor, Tensor> quantize_symmetric(const Tensor& x, int64_t bits, double clip, int64_t group);
std::tuple<Tensor, Tensor, Tensor> quantize_asymmetric(const Tensor& x, int64_t bits, double clip,
                                                       int64_t group);
Tensor abs_max_rows(const Tensor& x);
Tensor rms_norm(const Tensor& x, const Tensor& gain, double eps, int64_t groups);
Tensor gather_columns(const Tensor& x, const Tensor& index);

}  // namespace ptq::ops::fallback
