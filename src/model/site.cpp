#include "ptq/model/site.h"

#include <algorithm>
#include <limits>
#include <tuple>

#include "model/on_device.h"
#include "ptq/base/error.h"
#include "ptq/base/suggest.h"
#include "ptq/ops/ops.h"

namespace ptq {
namespace {

constexpr double kFloorOfZeros = 1e-5;  // the authors'
constexpr double kSmallestScale = std::numeric_limits<float>::min();

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

std::optional<ActivationScheme> ActivationQuantizer::scheme() const {
  if (kind == Kind::kNone) return {};
  const bool dynamic = kind == Kind::kDynamic;
  return ActivationScheme{bits, !dynamic || symmetric, dynamic, dynamic ? group : 0};
}

ActivationQuantizer ActivationQuantizer::fixed(double scale, int bits) {
  return fixed(at::full({1}, scale, at::kFloat), bits);
}

ActivationQuantizer ActivationQuantizer::fixed(Tensor scale, int bits) {
  ActivationQuantizer quantizer;
  quantizer.kind = Kind::kStatic;
  quantizer.bits = bits;
  quantizer.scale = std::move(scale);
  return quantizer;
}

ActivationQuantizer ActivationQuantizer::covering(double amax, int bits) {
  const double covered = amax == 0 ? kFloorOfZeros : amax;
  return fixed(std::max(covered / static_cast<double>(ActivationScheme{bits}.high()), kSmallestScale), bits);
}

ActivationQuantizer ActivationQuantizer::covering(const Tensor& amax, int bits) {
  const Tensor covered = amax.to(at::kDouble).masked_fill(amax == 0, kFloorOfZeros);
  const auto high = static_cast<double>(ActivationScheme{bits}.high());
  return fixed(covered.div(high).clamp_min_(kSmallestScale).to(at::kFloat).cpu(), bits);
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
  const std::optional<ActivationScheme> rounding = scheme();
  if (!rounding) return {.values = x};
  Activation y{.scheme = *rounding};
  if (kind == Kind::kStatic && scale.numel() > 1) {
    const Tensor steps = scale_on(x.device()), one = at::ones({1}, steps.options());
    std::tie(y.codes, y.scale) = ops::quantize_codes(x / steps, one, rounding->low(), rounding->high());
    y.scale = y.scale * steps;  // NaN where codes stand for one
  } else if (kind == Kind::kStatic) {
    std::tie(y.codes, y.scale) =
        ops::quantize_codes(x, scale_on(x.device()), rounding->low(), rounding->high());
  } else if (symmetric) {
    std::tie(y.codes, y.scale) = ops::quantize_symmetric(x, bits, clip, group);
  } else {
    std::tie(y.codes, y.zero, y.scale) = ops::quantize_asymmetric(x, bits, clip, group);
  }
  return y;
}

Tensor ActivationQuantizer::rounded(const Tensor& x) const {
  if (kind != Kind::kStatic) return (*this)(x).dequantize();
  const ActivationScheme rounding = *scheme();
  return ops::round_to_codes(x, scale_on(x.device()), rounding.low(), rounding.high());
}

Tensor ActivationQuantizer::scale_on(at::Device device) const {
  return on_device(scale, device);
}

Tensor Site::seen(const Tensor& x, Observer* observer) const {
  const Tensor y = transform.apply(x);
  if (observer != nullptr) observer->observe(*this, y);
  return y;
}

Activation Site::operator()(const Tensor& x, Observer* observer) const {
  return quantizer(seen(x, observer));
}

Tensor Site::rounded(const Tensor& x, Observer* observer) const {
  return quantizer.rounded(seen(x, observer));
}

Site& site_named(const std::string& name, const std::vector<Site*>& sites, const std::string& where) {
  std::vector<std::string> names;
  for (Site* site : sites) {
    if (site->name == name) return *site;
    names.push_back(site->name);
  }
  throw Error(where, "no activation site \"" + name + "\"", suggest(name, names));
}

}  // namespace ptq
