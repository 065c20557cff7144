#include "ptq/model/site.h"

#include <algorithm>
#include <limits>

#include "ptq/ops/ops.h"

namespace ptq {
namespace {

constexpr double kFloorOfZeros = 1e-5;  // the authors'
constexpr double kSmallestScale = std::numeric_limits<float>::min();

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

Tensor Activation::dequantize() const {
  if (is_float()) return values;
  if (scale.dim() <= values.dim()) return values * scale;
  return (values.unflatten(-1, {scale.size(-2), -1}) * scale).flatten(-2);
}

ActivationQuantizer ActivationQuantizer::fixed(double scale, int bits) {
  ActivationQuantizer quantizer;
  quantizer.kind = Kind::kStatic;
  quantizer.bits = bits;
  quantizer.scale = at::full({1}, scale, at::kFloat);
  return quantizer;
}

ActivationQuantizer ActivationQuantizer::covering(double amax, int bits) {
  const double covered = amax == 0 ? kFloorOfZeros : amax;
  return fixed(std::max(covered / static_cast<double>(highest_code(bits)), kSmallestScale), bits);
}

ActivationQuantizer ActivationQuantizer::per_token(int bits, bool symmetric, double clip, int64_t group) {
  ActivationQuantizer quantizer;
  quantizer.kind = Kind::kDynamic;
  quantizer.bits = bits;
  quantizer.symmetric = symmetric;
  quantizer.clip = clip;
  quantizer.group = group;
  return quantizer;
}

Activation ActivationQuantizer::operator()(const Tensor& x) const {
  const int64_t high = highest_code(bits);
  switch (kind) {
    case Kind::kNone:
      return {x, {}};
    case Kind::kStatic: {
      const Tensor on_device = scale.to(x.device());
      return {ops::quantize_codes(x, on_device, -high - 1, high), on_device, high + 1};
    }
    case Kind::kDynamic: {
      const Tensor rows = group == 0 ? x : x.unflatten(-1, {-1, group});
      Activation y = quantize_rows(rows);
      y.values = y.values.reshape(x.sizes());
      return y;
    }
  }
  return {x, {}};
}

// One scale for each row of x [..., n].
Activation ActivationQuantizer::quantize_rows(const Tensor& x) const {
  const int64_t high = highest_code(bits);
  if (!symmetric) {
    auto [codes, step] = ops::quantize_asymmetric(x, bits, clip);
    return {codes, step, (int64_t{1} << bits) - 1};
  }
  const Tensor amax = ops::abs_max_rows(x);
  const Tensor step =
      ((clip == 1 ? amax : amax * clip) / static_cast<double>(high)).clamp_min_(kSmallestScale);
  return {ops::quantize_codes(x, step, -high - 1, high), step, high + 1};
}

Activation Site::operator()(const Tensor& x) const {
  const Tensor y = transform.apply(x);
  if (observer != nullptr) observer->observe(y);
  return quantizer(y);
}

}  // namespace ptq
