#include "ptq/codec/quantized_tensor.h"

#include <cmath>
#include <limits>

namespace ptq {
namespace {

// w [out, ...] as [out, in].
Tensor as_matrix(const Tensor& w) {
  return w.dim() == 1 ? w.unsqueeze(1) : w.flatten(1);
}

// [out, in] -> [out, groups, group], zeros behind a shorter last group: they change neither its maximum nor
// its codes.
Tensor split_groups(const Tensor& matrix, int64_t group) {
  const int64_t in = matrix.size(1);
  const int64_t groups = (in + group - 1) / group;
  const Tensor padded = groups * group == in ? matrix : at::constant_pad_nd(matrix, {0, groups * group - in});
  return padded.reshape({matrix.size(0), groups, group});
}

// Scales spread over the shape of the weight [out, in], without copying where the scale is shared by a row or
// tensor.
Tensor spread_scales(const Tensor& scale, const WeightScheme& scheme, int64_t in) {
  if (scheme.granularity != Granularity::kGroup) return scale;
  return scale.repeat_interleave(scheme.group, 1).slice(1, 0, in);
}

}  // namespace

Tensor weight_scales(const Tensor& w, const WeightScheme& scheme) {
  constexpr double kSmallestMaximum = 1e-5;  // the authors' floor; keeps an all-zero weight at zero codes
  const Tensor matrix = as_matrix(w).to(at::kFloat);
  const double divisor = static_cast<double>(scheme.high());
  Tensor scale;
  switch (scheme.granularity) {
    case Granularity::kTensor:
      scale = matrix.abs().max().reshape({1}).clamp_min(kSmallestMaximum) / divisor;
      break;
    case Granularity::kChannel:
      scale = matrix.abs().amax(1, /*keepdim=*/true).clamp_min(kSmallestMaximum) / divisor;
      break;
    case Granularity::kGroup: {
      const auto codes_minus_one = static_cast<double>((int64_t{1} << scheme.bits) - 1);
      // The factor is a float32 constant first: the authors' codes depend on that rounding.
      const auto factor = static_cast<float>(2.0 / codes_minus_one);
      scale = split_groups(matrix, scheme.group).abs().amax(2).clamp_min(kSmallestMaximum) * factor;
      break;
    }
  }
  return scheme.half_scales ? scale.to(at::kHalf).to(at::kFloat) : scale;
}

QuantizedTensor round_with_scales(const Tensor& w, const Tensor& scale, const WeightScheme& scheme) {
  const Tensor matrix = as_matrix(w).to(at::kFloat);
  Tensor codes = matrix / spread_scales(scale, scheme, matrix.size(1));
  codes.round_().clamp_(scheme.low(), scheme.high());
  return {codes.to(at::kChar).reshape(w.sizes()), scale, scheme};
}

QuantizedTensor round_to_nearest(const Tensor& w, const WeightScheme& scheme) {
  return round_with_scales(w, weight_scales(w, scheme), scheme);
}

Tensor dequantize(const QuantizedTensor& q) {
  const Tensor matrix = as_matrix(q.codes).to(at::kFloat);
  return (matrix * spread_scales(q.scale, q.scheme, matrix.size(1))).reshape(q.codes.sizes());
}

Tensor pack_int4(const Tensor& codes) {
  const Tensor padded = codes.size(1) % 2 == 0 ? codes : at::constant_pad_nd(codes, {0, 1}, -8);
  const Tensor nibbles = (padded + 8).to(at::kByte).reshape({codes.size(0), padded.size(1) / 2, 2});
  return nibbles.select(2, 0) + nibbles.select(2, 1) * 16;
}

Tensor unpack_int4(const Tensor& packed, int64_t in) {
  const Tensor low = packed.bitwise_and(15);
  const Tensor high = packed.bitwise_right_shift(4);
  const Tensor nibbles = at::stack({low, high}, 2).reshape({packed.size(0), packed.size(1) * 2});
  return nibbles.slice(1, 0, in).to(at::kChar) - 8;
}

double sqnr_db(const Tensor& reference, const Tensor& approximation) {
  // Row sums first, then one sum over rows in float64: the same bits for any number of threads.
  const auto energy = [](const Tensor& x) {
    return x.reshape({-1, x.size(-1)})
        .square()
        .sum(1, /*keepdim=*/false, at::kDouble)
        .cpu()
        .cumsum(0)[-1]
        .item<double>();
  };
  const double signal = energy(reference);
  const double noise = energy(reference - approximation);
  if (noise == 0) return std::numeric_limits<double>::infinity();
  return 10 * std::log10(signal / noise);
}

}  // namespace ptq
