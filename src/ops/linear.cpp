// The one float32 matrix product of the program.
//
// libtorch carries two libraries for it. MKL reaches 115 GFLOP/s a core on the Intel processors measured and
// oneDNN 78; on AMD's, which MKL slows down, it is 92 to 210. So the processor's maker decides.
#include <ATen/ATen.h>
#include <torch/library.h>

#include <algorithm>

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

Tensor gram(const Tensor& x) {
  constexpr int64_t kBlock = 256;  // large enough for the product's full rate
  const Tensor columns = x.t().contiguous();
  const int64_t n = columns.size(0);
  Tensor result = at::empty({n, n}, x.options());
  for (int64_t i = 0; i < n; i += kBlock) {
    const int64_t i_end = std::min(n, i + kBlock);
    for (int64_t j = i; j < n; j += kBlock) {
      const int64_t j_end = std::min(n, j + kBlock);
      Tensor block = ops::linear(columns.slice(0, i, i_end), columns.slice(0, j, j_end));
      if (i == j) block = block.triu() + block.triu(1).t();
      result.slice(0, i, i_end).slice(1, j, j_end).copy_(block);
      if (i != j) result.slice(0, j, j_end).slice(1, i, i_end).copy_(block.t());
    }
  }
  return result;
}

}  // namespace ptq::ops
