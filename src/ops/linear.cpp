// The one float32 matrix product of the program.
//
// libtorch carries two libraries for it. MKL reaches 115 GFLOP/s a core on the Intel processors measured and
// oneDNN 78; on AMD's, which MKL slows down, it is 92 to 210. So the processor's maker decides.
#include <ATen/ATen.h>
#include <torch/library.h>

#include "ptq/ops/ops.h"

namespace ptq::ops {
namespace {

using LinearPointwise = Tensor(const Tensor&, const Tensor&, const std::optional<Tensor>&, std::string_view,
                               c10::List<std::optional<at::Scalar>>, std::optional<std::string_view>);

bool is_intel() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return __builtin_cpu_is("intel") != 0;
#else
  return false;
#endif
}

// libtorch's own oneDNN linear, which it keeps for its compiler; absent from builds without oneDNN.
std::optional<c10::TypedOperatorHandle<LinearPointwise>> find_onednn_linear() {
  const auto schema = c10::Dispatcher::singleton().findSchema({"mkldnn::_linear_pointwise", ""});
  if (!schema || !at::globalContext().hasMKLDNN() || is_intel()) return std::nullopt;
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
