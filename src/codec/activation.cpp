#include "ptq/codec/activation.h"

namespace ptq {
namespace {

// x [..., channels] as [..., scales, channels of one scale], to broadcast with scales.
Tensor by_scale(const Tensor& x, const Activation& activation) {
  const bool grouped = activation.scheme.per_token && activation.scheme.group > 0;
  return grouped ? x.unflatten(-1, {-1, activation.scheme.group}) : x;
}

}  // namespace

Tensor Activation::centered() const {
  const Tensor integers = codes.to(at::kFloat);
  if (zero.defined()) by_scale(integers, *this).sub_(zero);
  return integers;
}

Tensor Activation::dequantize() const {
  if (!in_codes()) return values;
  const Tensor result = centered();
  by_scale(result, *this).mul_(scale);
  return result;
}

Activation Activation::tokens(const Tensor& index) const {
  const auto chosen = [&](const Tensor& t) {
    return t.defined() ? t.flatten(0, 1).index_select(0, index).unsqueeze(0) : Tensor();
  };
  const bool by_token = scheme.per_token;
  return {chosen(values), chosen(codes), by_token ? chosen(scale) : scale, by_token ? chosen(zero) : zero,
          scheme};
}

}  // namespace ptq
