#include "ptq/model/linear.h"

#include <limits>

#include "ptq/ops/ops.h"

namespace ptq {
namespace {

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

std::shared_ptr<const Linear::Prepared> Linear::made_for(const IntegerProduct* row) const {
  const QuantizedTensor& q = *weight.quantized();
  if (prepared_ && prepared_->row == row && prepared_->codes.is_same(q.codes)) return prepared_;
  if (row == nullptr) return std::make_shared<Prepared>(Prepared{row, q.codes, dequantize(q), nullptr});
  return std::make_shared<Prepared>(Prepared{row, q.codes, {}, row->prepare(q)});
}

void Linear::prepare(const std::optional<ActivationScheme>& input) {
  const QuantizedTensor* q = weight.quantized();
  if (q == nullptr || q->codes.is_meta()) return;
  prepared_ = made_for(input ? find_integer_product(q->scheme, *input) : nullptr);
}

Tensor Linear::operator()(const Activation& x) const {
  const QuantizedTensor* q = weight.quantized();
  const IntegerProduct* row =
      q != nullptr && x.in_codes() ? find_integer_product(q->scheme, x.scheme) : nullptr;
  if (row != nullptr) {
    Tensor y = made_for(row)->integer->product(x);
    if (bias) y.add_(bias->values());
    return correction ? y.add_(low_rank_term(x.dequantize(), *correction)) : y;
  }
  const Tensor values = x.dequantize();
  const Tensor y = ops::linear(values, q != nullptr ? made_for(nullptr)->values : weight.values(),
                               bias ? bias->values() : Tensor());
  return correction ? y + low_rank_term(values, *correction) : y;
}

}  // namespace ptq
