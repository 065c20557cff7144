// The scan walks over time with one [batch, inner, state] tensor in hand. A parallel form over the whole
// length would hold [batch, length, inner, state] floats: 50 MB for one row of 512 tokens at inner 1536, and
// 16 times the rest. So does that of Mamba-2.
#include "ops/fallback.h"

#include <cmath>
#include <limits>
#include <vector>

#include "ptq/kernels/kernels.h"

namespace ptq::ops::fallback {
namespace {

// x [..., n] as [..., n / group, group]; x itself if there are no groups.
Tensor by_group(const Tensor& x, int64_t group) {
  return group == 0 ? x : x.unflatten(-1, {-1, group});
}

}  // namespace

Tensor selective_scan(const Tensor& u, const Tensor& dt, const Tensor& A, const Tensor& B, const Tensor& C,
                      const Tensor& D, const Tensor& z, const OptionalTensor& h) {
  check_selective_scan(u, dt, A, B, C, D, z, h);
  const Tensor delta = at::softplus(dt, /*beta=*/1, /*threshold=*/20);
  const Tensor input = delta * u;
  Tensor state =
      h ? h->clone() : at::zeros({u.size(0), u.size(2), A.size(1)}, u.options());  // [batch, inner, state]
  Tensor y = at::empty(u.sizes(), u.options());
  for (int64_t t = 0; t < u.size(1); ++t) {
    state = at::exp(delta.select(1, t).unsqueeze(-1) * A) * state +
            input.select(1, t).unsqueeze(-1) * B.select(1, t).unsqueeze(1);
    y.select(1, t).copy_((state * C.select(1, t).unsqueeze(1)).sum(-1));
  }
  if (h) h->copy_(state);
  return (y + D * u) * at::silu(z);
}

Tensor ssd_scan(const Tensor& u, const Tensor& dt, const Tensor& B, const Tensor& C, const Tensor& A,
                const Tensor& dt_bias, const Tensor& D, double delta_low, double delta_high, int64_t groups,
                const OptionalTensor& h) {
  check_ssd_scan(u, dt, B, C, A, dt_bias, D, delta_low, delta_high, groups, h);
  const int64_t heads = A.size(0), state = B.size(2) / groups, channels = u.size(2) / heads;
  const auto of_heads = [&](const Tensor& x) {  // [batch, length, groups * state] -> [..., heads, state]
    return x.unflatten(-1, {groups, state}).repeat_interleave(heads / groups, 2);
  };
  const Tensor delta = at::softplus(dt + dt_bias, /*beta=*/1, /*threshold=*/20).clamp_(delta_low, delta_high);
  const Tensor decay = at::exp(delta * A);
  const Tensor input = u.unflatten(-1, {heads, channels}) * delta.unsqueeze(-1);
  const Tensor Bs = of_heads(B), Cs = of_heads(C);
  Tensor last = h ? h->clone() : at::zeros({u.size(0), heads, state, channels}, u.options());
  Tensor y = at::empty(input.sizes(), u.options());  // [batch, length, heads, channels]
  for (int64_t t = 0; t < u.size(1); ++t) {
    last = decay.select(1, t).unsqueeze(-1).unsqueeze(-1) * last +
           Bs.select(1, t).unsqueeze(-1) * input.select(1, t).unsqueeze(-2);
    y.select(1, t).copy_((last * Cs.select(1, t).unsqueeze(-1)).sum(-2));
  }
  if (h) h->copy_(last);
  return y.flatten(-2).add_(D * u);
}

Tensor causal_conv1d_silu(const Tensor& x, const Tensor& weight, const OptionalTensor& bias,
                          const OptionalTensor& window) {
  check_causal_conv1d_silu(x, weight, bias, window);
  const int64_t length = x.size(1), width = weight.size(1);
  const Tensor before = window ? *window : at::zeros({x.size(0), width - 1, x.size(2)}, x.options());
  const Tensor padded = at::cat({before, x}, 1);  // [batch, width - 1 + length, inner]
  Tensor sum = padded.narrow(1, 0, length) * weight.select(1, 0);
  for (int64_t k = 1; k < width; ++k) sum.add_(padded.narrow(1, k, length) * weight.select(1, k));
  if (bias) sum.add_(*bias);
  if (window) window->copy_(padded.narrow(1, length, width - 1));
  return at::silu(sum);
}

Tensor hadamard(const Tensor& x, const Tensor& left, int64_t block) {
  check_hadamard(x, left, block);
  const int64_t m = left.size(0), chunk = block / m;
  Tensor y = x.contiguous();
  for (int64_t half = 1; half < chunk; half *= 2) {
    const Tensor pairs = y.reshape({-1, 2, half});
    const Tensor a = pairs.select(1, 0), b = pairs.select(1, 1);
    y = at::stack({a + b, a - b}, 1);
  }
  y = y.reshape({-1, m, chunk});
  if (m > 1) y = at::matmul(left, y);
  return (y * (1.0 / std::sqrt(static_cast<double>(block)))).reshape(x.sizes());
}

std::tuple<Tensor, Tensor> quantize_codes(const Tensor& x, const Tensor& scale, int64_t low, int64_t high) {
  check_quantize_codes(x, scale, low, high);
  const bool one = scale.numel() == 1;
  const Tensor nearest = at::round(at::div(x, one ? scale.reshape({1}) : scale));
  const Tensor codes = at::nan_to_num(nearest, /*nan=*/static_cast<double>(low)).clamp_(low, high);
  const Tensor nan = at::isnan(x), has_nan = one ? nan.any() : nan.any(-1, /*keepdim=*/true);
  return {codes.to(at::kChar), scale.masked_fill(has_nan, std::numeric_limits<double>::quiet_NaN())};
}

Tensor round_to_codes(const Tensor& x, const Tensor& scale, int64_t low, int64_t high) {
  check_round_to_codes(x, scale, low, high);
  const Tensor scales = scale.flatten();
  return at::round(at::div(x, scales)).clamp_(low, high).add_(0.0).mul_(scales);  // no -0
}

std::tuple<Tensor, Tensor> quantize_symmetric(const Tensor& x, int64_t bits, double clip, int64_t group) {
  check_quantize_symmetric(x, bits, clip, group);
  const auto high = static_cast<double>((int64_t{1} << (bits - 1)) - 1), low = -high - 1;
  const Tensor rows = by_group(x, group);
  const Tensor amax = at::amax(at::abs(rows), -1, /*keepdim=*/true);
  const Tensor step = (amax * clip / high).clamp_min_(kernels::kSmallestStep);
  const Tensor codes = at::nan_to_num(at::round(rows / step), /*nan=*/low).clamp_(low, high);
  return {codes.to(at::kChar).reshape(x.sizes()), step};
}

std::tuple<Tensor, Tensor, Tensor> quantize_asymmetric(const Tensor& x, int64_t bits, double clip,
                                                       int64_t group) {
  check_quantize_asymmetric(x, bits, clip, group);
  const auto last = static_cast<double>((int64_t{1} << bits) - 1);
  const Tensor rows = by_group(x, group);
  const Tensor high = at::amax(rows, -1, /*keepdim=*/true).clamp_min_(0).mul_(clip);
  const Tensor low = at::amin(rows, -1, /*keepdim=*/true).clamp_max_(0).mul_(clip);
  const Tensor step = ((high - low) / last).clamp_min_(kernels::kSmallestStep);
  const auto bytes = [last](const Tensor& nearest) {
    return at::nan_to_num(nearest, /*nan=*/0).clamp_(0, last).to(at::kByte);
  };
  const Tensor zero = bytes((low.neg() / step).round_());
  return {bytes((rows / step).round_().add_(zero)).reshape(x.sizes()), zero, step};
}

Tensor abs_max_rows(const Tensor& x) {
  check_abs_max_rows(x);
  return at::amax(at::abs(x), -1, /*keepdim=*/true);
}

Tensor rms_norm(const Tensor& x, const Tensor& gain, double eps, int64_t groups) {
  check_rms_norm(x, gain, groups);
  const Tensor parts = x.unflatten(-1, {groups, -1});
  return (parts / at::sqrt(at::mean(parts * parts, -1, /*keepdim=*/true) + eps)).flatten(-2) * gain;
}

Tensor gather_columns(const Tensor& x, const Tensor& index) {
  check_gather_columns(x, index);
  return x.index_select(-1, index);
}

}  // namespace ptq::ops::fallback
