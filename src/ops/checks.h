// What the arguments of each op must look like, checked before any kernel sees a pointer.
//
// Every function throws c10::Error naming the op, the argument and both shapes. All tensors must be float32,
// on the device of the first one, and must not ask for gradients while gradients are recorded: the ops have
// no backward.
#pragma once

#include <ATen/ATen.h>

namespace ptq::ops {

using at::Tensor;
using OptionalTensor = std::optional<at::Tensor>;

void check_selective_scan(const Tensor& u, const Tensor& dt, const Tensor& A, const Tensor& B,
                          const Tensor& C, const Tensor& D, const Tensor& z, const OptionalTensor& h);
// Also checks that the heads divide into the groups, and u and B into heads and groups.
void check_ssd_scan(const Tensor& u, const Tensor& dt, const Tensor& B, const Tensor& C, const Tensor& A,
                    const Tensor& dt_bias, const Tensor& D, double delta_low, double delta_high,
                    int64_t groups, const OptionalTensor& h);
void check_causal_conv1d_silu(const Tensor& x, const Tensor& weight, const OptionalTensor& bias,
                              const OptionalTensor& window);
// Also checks that block = m * 2^k with m the size of `left`.
void check_hadamard(const Tensor& x, const Tensor& left, int64_t block);
void check_quantize_codes(const Tensor& x, const Tensor& scale, int64_t low, int64_t high);
void check_round_to_codes(const Tensor& x, const Tensor& scale, int64_t low, int64_t high);
void check_quantize_symmetric(const Tensor& x, int64_t bits, double clip, int64_t group);
void check_quantize_asymmetric(const Tensor& x, int64_t bits, double clip, int64_t group);
void check_abs_max_rows(const Tensor& x);
void check_rms_norm(const Tensor& x, const Tensor& gain, int64_t groups);
// The entries of `index` are not looked at.
void check_gather_columns(const Tensor& x, const Tensor& index);

}  // namespace ptq::ops
