// The float32 matrix products of the program.
//
// libtorch carries two libraries for it. MKL reaches 115 GFLOP/s a core on the Intel processors measured and
// oneDNN 78; on AMD's, which MKL slows down, it is 92 to 210. So the processor's maker decides.
#include <ATen/ATen.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

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

const auto& onednn_linear() {
  static const auto op = find_onednn_linear();
  return op;
}

constexpr int64_t kPanel = 192;  // rows of a product with itself; narrower ones are computed at a lower rate

// Of x at a time. MKL splits longer sums among threads, and their bits then depend on how many there are.
constexpr int64_t kRowsAtOnce = 512;

// Rows [begin, end) of x^T x, from column `begin` on. x [rows, n]; `transposed` is x^T, or undefined.
Tensor gram_panel(const Tensor& x, const Tensor& transposed, int64_t begin, int64_t end) {
  Tensor sum = at::zeros({end - begin, x.size(1) - begin}, x.options());
  for (int64_t first = 0; first < x.size(0); first += kRowsAtOnce) {
    const int64_t last = std::min(x.size(0), first + kRowsAtOnce);
    if (transposed.defined()) {
      const Tensor part = transposed.slice(1, first, last);
      sum.add_(ops::linear(part.slice(0, begin, end), part.slice(0, begin)));
    } else {
      const Tensor part = x.slice(0, first, last);
      sum.addmm_(part.slice(1, begin, end).t(), part.slice(1, begin));
    }
  }
  return sum;
}

// use(begin, end, panel) for panels that together are x^T x on and above the diagonal.
template <typename Use>
void for_gram_panels(const Tensor& x, const Use& use) {
  // MKL reads columns as well as rows; oneDNN's linear wants rows.
  const Tensor transposed = onednn_linear() && x.is_cpu() ? x.t().contiguous() : Tensor();
  const int64_t n = x.size(1);
  for (int64_t begin = 0; begin < n; begin += kPanel) {
    const int64_t end = std::min(n, begin + kPanel);
    use(begin, end, gram_panel(x, transposed, begin, end));
  }
}

// Of fewer rows MKL computes x W^T at half the rate of W x^T, and splits sums among threads, so that the bits
// depend on their number.
constexpr int64_t kFewRows = 16;

bool has_few_rows(const Tensor& x) {
  const int64_t rows = x.dim() == 0 || x.size(-1) == 0 ? 0 : x.numel() / x.size(-1);
  return x.is_cpu() && x.scalar_type() == at::kFloat && rows > 1 && rows < kFewRows;
}

Tensor linear_of_few_rows(const Tensor& x, const Tensor& W, const Tensor& bias) {
  std::vector<int64_t> sizes = x.sizes().vec();
  sizes.back() = W.size(0);
  const Tensor y = W.matmul(x.reshape({-1, x.size(-1)}).t()).t().contiguous().view(sizes);
  return bias.defined() ? y + bias : y;
}

}  // namespace

Tensor linear(const Tensor& x, const Tensor& W, const Tensor& bias) {
  const auto& onednn = onednn_linear();
  const bool usable = onednn && x.is_cpu() && x.scalar_type() == at::kFloat &&
                      W.scalar_type() == at::kFloat && x.numel() > 0 && W.numel() > 0;
  if (!usable && has_few_rows(x)) return linear_of_few_rows(x, W, bias);
  if (!usable) return at::linear(x, W, bias);
  const std::optional<Tensor> optional_bias = bias.defined() ? std::optional<Tensor>(bias) : std::nullopt;
  return onednn->call(x.contiguous(), W.contiguous(), optional_bias, "none",
                      c10::List<std::optional<at::Scalar>>(), "");
}

Tensor gram(const Tensor& x) {
  Tensor result = at::empty({x.size(1), x.size(1)}, x.options());
  for_gram_panels(x, [&](int64_t begin, int64_t end, const Tensor& panel) {
    result.slice(0, begin, end).slice(1, begin).copy_(panel);
  });
  mirror_upper(result);
  return result;
}

void add_gram(const Tensor& sum, const Tensor& x) {
  for_gram_panels(x, [&](int64_t begin, int64_t end, const Tensor& panel) {
    sum.slice(0, begin, end).slice(1, begin).add_(panel);
  });
}

void add_cross(const Tensor& sum, const Tensor& a, const Tensor& b) {
  const Tensor left = a.t().contiguous(), right = b.t().contiguous();
  for (int64_t begin = 0; begin < left.size(0); begin += kPanel) {
    const int64_t end = std::min(left.size(0), begin + kPanel);
    for (int64_t first = 0; first < a.size(0); first += kRowsAtOnce) {
      const int64_t last = std::min(a.size(0), first + kRowsAtOnce);
      sum.slice(0, begin, end)
          .add_(ops::linear(left.slice(0, begin, end).slice(1, first, last), right.slice(1, first, last)));
    }
  }
}

void mirror_upper(const Tensor& matrix) {
  const int64_t n = matrix.size(0);
  for (int64_t begin = 0; begin < n; begin += kPanel) {
    const int64_t end = std::min(n, begin + kPanel);
    const Tensor rows = matrix.slice(0, begin, end);
    Tensor diagonal = rows.slice(1, begin, end);
    diagonal.copy_(diagonal.triu() + diagonal.triu(1).t());
    matrix.slice(0, end).slice(1, begin, end).copy_(rows.slice(1, end).t());
  }
}

}  // namespace ptq::ops
