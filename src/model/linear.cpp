#include "ptq/model/linear.h"

#include <limits>

#include "ptq/ops/ops.h"

namespace ptq {
namespace {

const ActivationQuantizer& int8_inputs() {
  static const ActivationQuantizer quantizer = ActivationQuantizer::per_token(8);
  return quantizer;
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

Linear::Prepared Linear::made_for(const IntegerProduct* row) const {
  const QuantizedTensor* q = weight.quantized();
  Prepared form{.row = row};
  if (q != nullptr) form.codes = q->codes;
  if (row != nullptr) {
    form.integer = row->prepare(*q);
  } else {
    form.floats = weight.as_stored();
  }
  return form;
}

bool Linear::is_prepared(const IntegerProduct* row) const {
  if (!prepared_ || prepared_->row != row) return false;
  return sealed_ || (weight.quantized() != nullptr && prepared_->codes.is_same(weight.quantized()->codes));
}

const IntegerProduct* Linear::row_for(const std::optional<ActivationScheme>& input) const {
  if (sealed_) return input || prepared_->rounds_inputs ? prepared_->row : nullptr;
  const QuantizedTensor* q = weight.quantized();
  return q != nullptr && input ? find_integer_product(q->scheme, *input) : nullptr;
}

void Linear::prepare(const std::optional<ActivationScheme>& input) {
  if (weight.quantized() == nullptr || weight.device().is_meta()) return;
  const IntegerProduct* row = row_for(input);
  if (!is_prepared(row)) prepared_ = std::make_shared<Prepared>(made_for(row));
}

bool Linear::takes_int8(const std::optional<ActivationScheme>& input) const {
  const QuantizedTensor* q = weight.quantized();
  return !input && q != nullptr && find_integer_product(q->scheme, *int8_inputs().scheme()) != nullptr;
}

void Linear::seal(const std::optional<ActivationScheme>& input, const Compute& compute) {
  if (sealed_ || weight.device().is_meta()) return;
  const bool rounds = compute.int8_inputs && takes_int8(input);
  const IntegerProduct* row = row_for(rounds ? int8_inputs().scheme() : input);
  if (row != nullptr && compute.simulated) row = &integer_products().back();
  Prepared form = made_for(row);
  form.rounds_inputs = rounds;
  form.codes = Tensor();
  if (correction) {
    // What is stored in codes has a scale for each column of B; such factors stay float32.
    const at::ScalarType held = correction->stored == at::kChar ? at::kFloat : correction->stored;
    form.A = StoredWeight(correction->A.to(held));
    form.B = StoredWeight(correction->B.to(held));
    correction.reset();
  }
  prepared_ = std::make_shared<Prepared>(std::move(form));
  weight.release();
  sealed_ = true;
}

Tensor Linear::low_rank_term(const Tensor& x) const {
  if (sealed_) return prepared_->B->product(prepared_->A->product(x));
  return ops::linear(ops::linear(x, correction->A), correction->B);
}

Tensor Linear::operator()(const Activation& x) const {
  const IntegerProduct* row = row_for(x.in_codes() ? std::optional(x.scheme) : std::nullopt);
  const bool corrected = sealed_ ? prepared_->A.has_value() : correction.has_value();
  const std::shared_ptr<const Prepared> form =
      is_prepared(row) ? prepared_ : std::make_shared<Prepared>(made_for(row));
  if (row != nullptr) {
    Tensor y = form->integer->product(form->rounds_inputs ? int8_inputs()(x.values) : x);
    if (bias) y.add_(bias->values());
    return corrected ? y.add_(low_rank_term(x.dequantize())) : y;
  }
  const Tensor values = x.dequantize();
  const Tensor y = form->floats->product(values, bias ? bias->values() : Tensor());
  return corrected ? y + low_rank_term(values) : y;
}

}  // namespace ptq
