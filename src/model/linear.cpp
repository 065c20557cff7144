// Integer products held in floats.
//
// A zero point is taken off its codes first: sum (qx - zx)(qw - zw) is the integer that a kernel gets from
// sum qx qw and its corrections. float32 represents every integer up to 2^24, so a float32 GEMM over codes is
// exact as long as no partial sum passes that: 128 * 128 * k <= 2^24 gives k <= 1024. Longer rows are cut
// into pieces of that length, whose exact sums are added in float64. An int32 accumulator holds the same
// integer (128 * 128 * k < 2^31 up to k = 131,071), and its conversion to float32 rounds once, as ours does:
// the result is bit-equal to integer arithmetic.
#include "ptq/model/linear.h"

#include <algorithm>
#include <limits>

#include "ptq/ops/ops.h"

namespace ptq {
namespace {

constexpr int64_t kExactFloat = int64_t{1} << 24;

// Both operands in codes. rows [rows, in], |rows| <= bound; returns the product without the activation scale,
// [rows, out].
Tensor scaled_integer_product(const Tensor& rows, int64_t bound, const QuantizedTensor& q) {
  const Tensor codes = centered_codes(q);
  const int64_t weight_bound = centered_bound(q.scheme);
  if (q.scheme.granularity != Granularity::kGroup) {
    const Tensor sums = exact_matmul(rows, codes, bound, weight_bound).to(at::kFloat);
    return sums * q.scale.reshape({-1});
  }
  // One exact product a group, then one float32 multiply-add: the order an integer kernel uses.
  Tensor y;
  const int64_t in = codes.size(1);
  for (int64_t g = 0; g * q.scheme.group < in; ++g) {
    const int64_t begin = g * q.scheme.group;
    const int64_t end = std::min(in, begin + q.scheme.group);
    const Tensor sums =
        exact_matmul(rows.slice(1, begin, end), codes.slice(1, begin, end), bound, weight_bound);
    const Tensor part = sums.to(at::kFloat) * q.scale.select(1, g);
    y = y.defined() ? y + part : part;
  }
  return y;
}

Tensor low_rank_term(const Tensor& x, const LowRank& correction) {
  return ops::linear(ops::linear(x, correction.A), correction.B);
}

}  // namespace

int64_t LowRank::bytes() const {
  const int64_t scales = A_scale.defined() ? 2 * rank() * static_cast<int64_t>(sizeof(float)) : 0;
  return (A.numel() + B.numel()) * static_cast<int64_t>(at::elementSize(stored)) + scales;
}

LowRank make_low_rank(const Tensor& A, const Tensor& B, at::ScalarType stored) {
  LowRank result;
  result.stored = stored;
  if (stored != at::kChar) {
    result.A = A.to(stored).to(at::kFloat);
    result.B = B.to(stored).to(at::kFloat);
    return result;
  }
  // Codes of -127 to 127; a row of zeros keeps a scale that divides.
  const auto scale_of = [](const Tensor& t, int64_t dim) {  // without abs(), which meta tensors do not have
    const Tensor largest = at::maximum(t.amax(dim), -t.amin(dim));
    return (largest.to(at::kFloat) / 127).clamp_min_(std::numeric_limits<float>::min());
  };
  result.A_scale = scale_of(A, 1);
  result.B_scale = scale_of(B, 0);
  const Tensor row_scale = result.A_scale.unsqueeze(1);
  result.A = (A.to(at::kFloat) / row_scale).round().mul_(row_scale);
  result.B = (B.to(at::kFloat) / result.B_scale).round().mul_(result.B_scale);
  return result;
}

Tensor exact_matmul(const Tensor& a, const Tensor& b, int64_t a_bound, int64_t b_bound) {
  const int64_t k = a.size(1);
  const int64_t piece = kExactFloat / (a_bound * b_bound);
  if (k <= piece) return ops::linear(a, b);
  Tensor sums = at::zeros({a.size(0), b.size(0)}, a.options().dtype(at::kDouble));
  for (int64_t begin = 0; begin < k; begin += piece) {
    const int64_t end = std::min(k, begin + piece);
    sums += ops::linear(a.slice(1, begin, end), b.slice(1, begin, end)).to(at::kDouble);
  }
  return sums;
}

Tensor Linear::operator()(const Activation& x) const {
  const bool integer = !x.is_float() && weight.quantized && weight.quantized->scheme.is_linear();
  if (!integer) {
    const Tensor values = x.dequantize();
    const Tensor y = ops::linear(values, weight.value, bias ? bias->value : Tensor());
    return correction ? y + low_rank_term(values, *correction) : y;
  }
  Tensor y;
  if (weight.quantized->scheme.granularity == Granularity::kTensor && x.scale.numel() == 1) {
    // Both scales are one number: multiply them first, as a fused kernel does, and pass over the output once.
    const QuantizedTensor& q = *weight.quantized;
    const Tensor rows = x.values.flatten(0, -2);
    y = exact_matmul(rows, centered_codes(q), x.bound, centered_bound(q.scheme)).to(at::kFloat);
    y = y.mul_(x.scale * q.scale).unflatten(0, x.values.sizes().slice(0, x.values.dim() - 1));
  } else {
    const Tensor rows = x.values.flatten(0, -2);
    const Tensor product = scaled_integer_product(rows, x.bound, *weight.quantized);
    y = product.unflatten(0, x.values.sizes().slice(0, x.values.dim() - 1)) * x.scale;
  }
  if (bias) y.add_(bias->value);
  return correction ? y.add_(low_rank_term(x.dequantize(), *correction)) : y;
}

}  // namespace ptq
