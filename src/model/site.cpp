#include "ptq/model/site.h"

#include <algorithm>

#include "ptq/ops/ops.h"

namespace ptq {
namespace {

constexpr double kSmallestMaximum = 1e-5;

int64_t highest_code(int bits) {
  return (int64_t{1} << (bits - 1)) - 1;
}

}  // namespace

const char* ActivationQuantizer::kind_name() const {
  switch (kind) {
    case Kind::kNone:
      return "none";
    case Kind::kStatic:
      return "static";
    case Kind::kDynamic:
      return "dynamic";
  }
  return "?";
}

ActivationQuantizer ActivationQuantizer::fixed(double scale, int bits) {
  return {Kind::kStatic, bits, at::full({1}, scale, at::kFloat)};
}

ActivationQuantizer ActivationQuantizer::covering(double amax, int bits) {
  return fixed(std::max(amax, kSmallestMaximum) / static_cast<double>(highest_code(bits)), bits);
}

ActivationQuantizer ActivationQuantizer::per_token(int bits) {
  return {Kind::kDynamic, bits, {}};
}

Activation ActivationQuantizer::operator()(const Tensor& x) const {
  const int64_t high = highest_code(bits);
  switch (kind) {
    case Kind::kNone:
      return {x, {}};
    case Kind::kStatic: {
      const Tensor on_device = scale.to(x.device());
      return {ops::quantize_codes(x, on_device, -high - 1, high), on_device};
    }
    case Kind::kDynamic: {
      const Tensor token_scale = ops::abs_max_rows(x).clamp_min(kSmallestMaximum) / static_cast<double>(high);
      return {ops::quantize_codes(x, token_scale, -high - 1, high), token_scale};
    }
  }
  return {x, {}};
}

Activation Site::operator()(const Tensor& x) const {
  const Tensor y = transform ? transform->apply(x) : x;
  if (observer != nullptr) observer->observe(y);
  return quantizer(y);
}

}  // namespace ptq
