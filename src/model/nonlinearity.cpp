#include "model/nonlinearity.h"

#include "ptq/base/suggest.h"

namespace ptq {
namespace {

struct Named {
  const char* name;
  Nonlinearity f;
};

// As configurations call them.
constexpr Named kNames[] = {
    {"silu", Nonlinearity::kSilu},         {"swish", Nonlinearity::kSilu},
    {"gelu", Nonlinearity::kGelu},         {"gelu_pytorch_tanh", Nonlinearity::kGeluTanh},
    {"gelu_new", Nonlinearity::kGeluTanh}, {"gelu_fast", Nonlinearity::kGeluTanh},
    {"relu", Nonlinearity::kRelu},         {"relu2", Nonlinearity::kReluSquared},
};

}  // namespace

Tensor& apply(Nonlinearity f, Tensor& x, double scale) {
  if (scale != 1) x.mul_(scale);
  switch (f) {
    case Nonlinearity::kSilu:
      return at::silu_(x);
    case Nonlinearity::kGelu:
      return at::gelu_(x);
    case Nonlinearity::kGeluTanh:
      return at::gelu_(x, "tanh");
    case Nonlinearity::kRelu:
      return at::relu_(x);
    case Nonlinearity::kReluSquared:
      break;
  }
  return at::relu_(x).square_();
}

std::optional<double> scale_power(Nonlinearity f) {
  if (f == Nonlinearity::kRelu) return 1;
  if (f == Nonlinearity::kReluSquared) return 0.5;
  return {};
}

Nonlinearity read_nonlinearity(JsonFields& fields, const std::string& key, const std::string& fallback) {
  const std::string name = fields.string(key, fallback);
  std::vector<std::string> known;
  for (const Named& named : kNames) {
    if (name == named.name) return named.f;
    known.emplace_back(named.name);
  }
  throw Error(config_place(fields, key), Json(name).dump() + " is not supported", suggest(name, known));
}

}  // namespace ptq
