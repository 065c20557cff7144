#include "codec/block_formats.h"

#include <array>

namespace ptq {
namespace {

// Quantiles of the normal distribution scaled to [-1, 1], as bitsandbytes has them (QLoRA, arXiv 2305.14314,
// appendix E).
constexpr std::array<float, 16> kNf4 = {
    -1.0F,
    -0.6961928009986877F,
    -0.5250730514526367F,
    -0.39491748809814453F,
    -0.28444138169288635F,
    -0.18477343022823334F,
    -0.09105003625154495F,
    0.0F,
    0.07958029955625534F,
    0.16093020141124725F,
    0.24611230194568634F,
    0.33791524171829224F,
    0.44070982933044434F,
    0.5626170039176941F,
    0.7229568362236023F,
    1.0F,
};

Tensor nf4_table(at::Device device) {
  return at::tensor(at::ArrayRef<float>(kNf4.data(), kNf4.size())).to(device);
}

}  // namespace

Tensor mxint_scale(const Tensor& amax, int bits) {
  // frexp's mantissa lies in [0.5, 1), so its exponent is one more than floor(log2).
  const Tensor exponent = at::where(amax < kSmallestNormal, -126, std::get<1>(at::frexp(amax)) - 1);
  // In float64, because 2^(-126 - 6) is a subnormal number of float32: exact, but not made by exp2 there.
  return at::exp2((exponent - (bits - 2)).to(at::kDouble)).to(at::kFloat);
}

Tensor nf4_codes(const Tensor& x) {
  const Tensor table = nf4_table(x.device());
  const Tensor thresholds = ((table.slice(0, 1) + table.slice(0, 0, 15)) / 2);
  return at::bucketize(x.contiguous(), thresholds, /*out_int32=*/true, /*right=*/false).to(at::kChar);
}

Tensor nf4_values(const Tensor& codes) {
  // Unlike index_select(), index() has a form for the meta device.
  return nf4_table(codes.device()).index({codes.to(at::kLong)});
}

}  // namespace ptq
