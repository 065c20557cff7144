// Integer products held in floats.
//
// A zero point is taken off its codes first: sum (qx - zx)(qw - zw) is the integer that a kernel gets from
// sum qx qw and its corrections. float32 represents every integer up to 2^24, so a float32 GEMM over codes is
// exact as long as no partial sum passes that: 128 * 128 * k <= 2^24 gives k <= 1024. Longer rows are cut
// into pieces of that length, whose exact sums are added in float64. An int32 accumulator holds the same
// integer (128 * 128 * k < 2^31 up to k = 131,071), and its conversion to float32 rounds once, as ours does:
// the result is bit-equal to integer arithmetic.
#include "ops/exact_product.h"

#include <algorithm>

#include "ptq/ops/ops.h"

namespace ptq {
namespace {

constexpr int64_t kExactFloat = int64_t{1} << 24;

class ExactWeight : public PreparedWeight {
 public:
  explicit ExactWeight(const QuantizedTensor& q)
      : codes_(centered_codes(q)), scale_(q.scale), scheme_(q.scheme) {}

  Tensor product(const Activation& x) const override {
    const Tensor rows = x.centered().flatten(0, -2);
    const auto unflatten = [&](const Tensor& y) {
      return y.unflatten(0, x.sizes().slice(0, x.sizes().size() - 1));
    };
    if (scheme_.granularity == Granularity::kTensor && !x.scheme.per_token) {
      // Both scales are one number: multiply them first, as a fused kernel does, and pass over the output
      // once.
      return unflatten(sums(rows, codes_, x).mul_(x.scale * scale_));
    }
    return unflatten(scaled_sums(rows, x)) * x.scale;
  }

 private:
  Tensor sums(const Tensor& rows, const Tensor& codes, const Activation& x) const {
    return exact_matmul(rows, codes, x.scheme.bound(), centered_bound(scheme_)).to(at::kFloat);
  }

  // The product without the activation's scale, [rows, out].
  Tensor scaled_sums(const Tensor& rows, const Activation& x) const {
    if (scheme_.granularity != Granularity::kGroup) return sums(rows, codes_, x) * scale_.reshape({-1});
    // One exact product a group, then one float32 multiply-add: the order an integer kernel uses.
    Tensor y;
    const int64_t in = codes_.size(1);
    for (int64_t g = 0; g * scheme_.group < in; ++g) {
      const int64_t begin = g * scheme_.group, end = std::min(in, begin + scheme_.group);
      const Tensor part =
          sums(rows.slice(1, begin, end), codes_.slice(1, begin, end), x) * scale_.select(1, g);
      y = y.defined() ? y + part : part;
    }
    return y;
  }

  Tensor codes_;  // [out, in] float32
  Tensor scale_;  // as in QuantizedTensor
  WeightScheme scheme_;
};

}  // namespace

Tensor exact_matmul(const Tensor& a, const Tensor& b, int64_t a_bound, int64_t b_bound) {
  const int64_t k = a.size(1);
  const int64_t piece = kExactFloat / (a_bound * b_bound);
  if (k <= piece) return ops::linear(a, b);
  Tensor sums = at::zeros({a.size(0), b.size(0)}, a.options().dtype(at::kDouble));
  for (int64_t begin = 0; begin < k; begin += piece) {
    const int64_t end = std::min(k, begin + piece);
    sums += ops::linear(a.slice(1, begin, end), b.slice(1, begin, end)).to(at::kDouble);
  }
  return sums;
}

bool exact_product_supports(const WeightScheme& weight, const ActivationScheme& activation) {
  return weight.is_linear() && !(activation.per_token && activation.group > 0);
}

std::shared_ptr<const PreparedWeight> prepare_exact_product(const QuantizedTensor& weight) {
  return std::make_shared<ExactWeight>(weight);
}

}  // namespace ptq
