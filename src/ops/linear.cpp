// The one float32 matrix product of the program.
#include <ATen/ATen.h>
#include <torch/library.h>

#include "ptq/ops/ops.h"

namespace ptq::ops {
namespace {

using LinearPointwise = Tensor(const Tensor&, const Tensor&, const std::optional<Tensor>&, std::string_view,
                               c10::List<std::optional<at::Scalar>>, std::optional<std::string_view>);

// libtorch's own oneDNN linear, which it keeps for its compiler; absent from builds without oneDNN.
std::optional<c10::TypedOperatorHandle<LinearPointwise>> find_onednn_linear() {
  const auto schema = c10::Dispatcher::singleton().findSchema({"mkldnn::_linear_pointwise", ""});
  if (!schema || !at::globalContext().hasMKLDNN()) return std::nullopt;
  return schema->typed<LinearPointwise>();
}

}  // namespace

Tensor linear(const Tensor& x, const Tensor& W, const Tensor& bias) {
  static const auto onednn = find_onednn_linear();
  const bool usable = onednn && x.is_cpu() && x.scalar_type() == at::kFloat &&
                      W.scalar_type() == at::kFloat && x.numel() > 0 && W.numel() > 0;
  if (!usable) return at::linear(x, W, bias);
  const std::optional<Tensor> optional_bias = bias.defined() ? std::optional<Tensor>(bias) : std::nullopt;
  return onednn->call(x.contiguous(), W.contiguous(), optional_bias, "none",
                      c10::List<std::optional<at::Scalar>>(), "");
}

}  // namespace ptq::ops
