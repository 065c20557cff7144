#include "ptq/codec/quantized_tensor.h"

#include "codec/block_formats.h"

#include <cmath>
#include <limits>
#include <vector>

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

// A part of a matrix [out, in] and the grid that its values broadcast with: the matrix itself, or with groups
// the whole groups [out, groups, group] and a shorter last one [out, 1, rest]. Views: writing to `values`
// writes to the matrix.
struct Part {
  Tensor values;
  WeightGrid grid;
};

std::vector<Part> parts_of(const Tensor& matrix, const WeightGrid& grid, const WeightScheme& scheme) {
  if (scheme.granularity != Granularity::kGroup) return {{matrix, grid}};
  const int64_t in = matrix.size(1), whole = in / scheme.group, rest = in % scheme.group;
  const auto columns = [&](int64_t first, int64_t count) -> WeightGrid {
    const auto take = [&](const Tensor& t) { return t.narrow(1, first, count).unsqueeze(2); };
    return {take(grid.scale), grid.zero.defined() ? take(grid.zero) : Tensor()};
  };
  std::vector<Part> parts;
  if (whole > 0) {
    const Tensor groups = matrix.narrow(1, 0, whole * scheme.group).unflatten(1, {whole, scheme.group});
    parts.push_back({groups, columns(0, whole)});
  }
  if (rest > 0) parts.push_back({matrix.narrow(1, in - rest, rest).unsqueeze(1), columns(whole, 1)});
  return parts;
}

// Largest and smallest value of what shares a scale, in the shape of `scale`.
struct Range {
  Tensor high, low;
};

Range range_of(const Tensor& matrix, const WeightScheme& scheme) {
  switch (scheme.granularity) {
    case Granularity::kTensor:
      return {matrix.amax().reshape({1}), matrix.amin().reshape({1})};
    case Granularity::kChannel:
      return {matrix.amax(1, /*keepdim=*/true), matrix.amin(1, /*keepdim=*/true)};
    case Granularity::kGroup: {
      const Tensor groups = split_groups(matrix, scheme.group);
      return {groups.amax(2), groups.amin(2)};
    }
  }
  return {};
}

Tensor stored_scale(const Tensor& scale, const WeightScheme& scheme) {
  return scheme.half_scales ? scale.to(at::kHalf).to(at::kFloat) : scale;
}

constexpr double kFloorOfZeros = 1e-5;  // the authors'; keeps an all-zero weight at zero codes

// A float32 scale below the normal range has too few digits to divide by.
Tensor stored_with_floor(Tensor scale, const WeightScheme& scheme) {
  return scheme.half_scales ? stored_scale(scale, scheme) : scale.clamp_min_(kSmallestNormal);
}

WeightGrid symmetric_grid(const Range& range, const WeightScheme& scheme, const Tensor& clip) {
  Tensor amax = at::maximum(range.high, range.low.neg());
  if (clip.defined()) amax = amax * clip;
  if (scheme.format == NumberFormat::kMxint) return {mxint_scale(amax, scheme.bits), {}};
  if (scheme.format == NumberFormat::kNf4) return {amax, {}};
  if (scheme.plain_scales) return {stored_scale(amax / static_cast<double>(scheme.high()), scheme), {}};
  amax = amax.masked_fill(amax == 0, kFloorOfZeros);
  if (scheme.granularity != Granularity::kGroup) {
    return {stored_with_floor(amax / static_cast<double>(scheme.high()), scheme), {}};
  }
  const auto codes_minus_one = static_cast<double>((int64_t{1} << scheme.bits) - 1);
  // The factor is a float32 constant first: the authors' codes depend on that rounding.
  const auto factor = static_cast<float>(2.0 / codes_minus_one);
  return {stored_with_floor(amax * factor, scheme), {}};
}

// 0 is in the range, so that it has a code, and a row of one value keeps it.
WeightGrid asymmetric_grid(const Range& range, const WeightScheme& scheme, const Tensor& clip) {
  const int64_t codes_minus_one = (int64_t{1} << scheme.bits) - 1;
  Tensor high = range.high.clamp_min(0), low = range.low.clamp_max(0);
  if (clip.defined()) {
    high = high * clip;
    low = low * clip;
  }
  Tensor scale = (high - low) / static_cast<double>(codes_minus_one);
  if (!scheme.plain_scales) scale = scale.masked_fill(scale == 0, kFloorOfZeros);
  scale = scheme.plain_scales ? stored_scale(scale, scheme) : stored_with_floor(scale, scheme);
  // A scale that was raised or rounded to float16 can put the zero point outside the codes.
  const Tensor zero =
      (low.neg() / scale.masked_fill(scale == 0, 1)).round_().clamp_(0, codes_minus_one).add_(scheme.low());
  return {scale, zero.to(at::kChar)};
}

// A sum of squares: sum * 4^exponent.
struct Energy {
  double sum = 0;
  int exponent = 0;
};

// Squares of numbers near 1: those of small or large ones are no float32 numbers. A power of two changes no
// other bit.
Energy energy_of(const Tensor& x) {
  const Tensor rows = x.reshape({-1, x.size(-1)});
  const auto largest = x.numel() == 0 ? 0.0F : rows.abs().max().item<float>();
  if (largest == 0 || !std::isfinite(largest)) return {static_cast<double>(largest), 0};
  Energy energy;
  std::frexp(largest, &energy.exponent);
  // In two steps, because 2^149 is no float32 number.
  const int half = -energy.exponent / 2;
  const Tensor near_one = rows * std::ldexp(1.0F, half) * std::ldexp(1.0F, -energy.exponent - half);
  // Row sums first, then one sum over rows in float64: the same bits for any number of threads.
  energy.sum = near_one.square_().sum(1, /*keepdim=*/false, at::kDouble).cpu().cumsum(0)[-1].item<double>();
  return energy;
}

}  // namespace

WeightGrid weight_grid(const Tensor& w, const WeightScheme& scheme, const Tensor& clip) {
  const Range range = range_of(as_matrix(w).to(at::kFloat), scheme);
  return scheme.symmetric ? symmetric_grid(range, scheme, clip) : asymmetric_grid(range, scheme, clip);
}

bool half_scales_hold(const Tensor& w, const WeightScheme& scheme) {
  if (!scheme.half_scales) return true;
  constexpr double kLostDigits = 0x1p-7;  // of a scale; normal float16 numbers lose at most 2^-11
  constexpr double kLostEnergy = 0.01;
  WeightScheme wide = scheme;
  wide.half_scales = false;
  const Tensor scale = weight_grid(w, wide).scale;
  const Tensor half = scale.to(at::kHalf).to(at::kFloat);
  if (!at::isfinite(half).all().item<bool>()) return false;
  // By each group's largest weight. In float64, which holds the square of any float32.
  const Range range = range_of(as_matrix(w).to(at::kFloat), scheme);
  const Tensor energy = at::maximum(range.high, range.low.neg()).to(at::kDouble).square();
  const Tensor hurt = (half - scale).abs() > scale * kLostDigits;
  return (energy * hurt).sum().item<double>() <= kLostEnergy * energy.sum().item<double>();
}

QuantizedTensor round_on_grid(const Tensor& w, const WeightGrid& grid, const WeightScheme& scheme) {
  // In place after the division: a search over grids calls this often.
  const Tensor matrix = as_matrix(w).to(at::kFloat);
  const Tensor codes = at::empty(matrix.sizes(), matrix.options());
  const std::vector<Part> from = parts_of(matrix, grid, scheme), to = parts_of(codes, grid, scheme);
  for (size_t i = 0; i < from.size(); ++i) {
    Tensor part = to[i].values;
    const Tensor& step = from[i].grid.scale;
    at::div_out(part, from[i].values, step.masked_fill(step == 0, 1));
    if (scheme.format == NumberFormat::kNf4) {
      part.copy_(nf4_codes(part));
      continue;
    }
    if (scheme.format == NumberFormat::kMxint) part.mul_(from[i].values.abs() >= kSmallestNormal);
    part.round_();
    if (grid.zero.defined()) part.add_(from[i].grid.zero);
  }
  codes.clamp_(scheme.low(), scheme.high());
  return {codes.to(at::kChar).reshape(w.sizes()), grid.scale, grid.zero, scheme};
}

QuantizedTensor round_to_nearest(const Tensor& w, const WeightScheme& scheme, const Tensor& clip) {
  return round_on_grid(w, weight_grid(w, scheme, clip), scheme);
}

Tensor centered_codes(const QuantizedTensor& q) {
  TORCH_CHECK(q.scheme.is_linear(), "codes of a table are not integers");
  const Tensor matrix = as_matrix(q.codes).to(at::kFloat);
  if (q.zero.defined()) {
    for (const Part& part : parts_of(matrix, {q.scale, q.zero}, q.scheme)) part.values.sub_(part.grid.zero);
  }
  return matrix.reshape(q.codes.sizes());
}

int64_t centered_bound(const WeightScheme& scheme) {
  return scheme.symmetric ? int64_t{1} << (scheme.bits - 1) : (int64_t{1} << scheme.bits) - 1;
}

Tensor dequantize(const QuantizedTensor& q) {
  const Tensor values = q.scheme.is_linear() ? centered_codes(q) : nf4_values(q.codes);
  for (const Part& part : parts_of(as_matrix(values), {q.scale, {}}, q.scheme))
    part.values.mul_(part.grid.scale);
  return values;
}

double sqnr_db(const Tensor& reference, const Tensor& approximation) {
  const Energy signal = energy_of(reference), noise = energy_of(reference - approximation);
  if (noise.sum == 0) return std::numeric_limits<double>::infinity();
  return 10 * std::log10(std::ldexp(signal.sum / noise.sum, 2 * (signal.exponent - noise.exponent)));
}

}  // namespace ptq
