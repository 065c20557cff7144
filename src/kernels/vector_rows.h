// Kernels that go along rows: quantize_codes, round_to_codes, quantize_asymmetric, abs_max_rows, rms_norm
// and gather_columns. Four partial results run side by side in the reductions, to hide the latency of one
// chain.
//
// Include after one of vec_avx2.h and vec_avx512.h.
#pragma once

#include "kernels/vector_sums.h"

namespace ptq::kernels {
namespace {

// Returns the larger of `largest` and |x|, in which a NaN stays.
template <typename Lanes>
inline Vec quantize_vector(const float* x, int8_t* y, Vec scale, Vec low, Vec high, Vec largest,
                           Lanes lanes) {
  // A product with 1 / scale would be faster and gives other codes at the boundaries.
  const Vec v = load(x, lanes), code = round_even(div(v, scale));
  store(y, at_most(at_least(low, code), high), lanes);  // in this order NaN gives `low`
  return larger_abs(largest, v);
}

inline bool has_nan(Vec largest) {
  alignas(64) float lanes[kWidth];
  store(lanes, largest);
  bool found = false;
  for (int64_t i = 0; i < kWidth; ++i) found = found || lanes[i] != lanes[i];
  return found;
}

void quantize_codes(const QuantizeCodes& s) {
  const Vec low = broadcast(s.low), high = broadcast(s.high);
  const int64_t whole = s.columns - s.columns % kWidth;
  const SomeLanes rest(s.columns - whole);
  Vec largest = zero();
  for (int64_t r = 0; r < s.rows; ++r) {
    const float* x = s.x + r * s.x_stride;
    int8_t* y = s.y + r * s.y_stride;
    const Vec scale = broadcast(s.scale[r * s.scale_stride]);
    for (int64_t c = 0; c < whole; c += kWidth)
      largest = quantize_vector(x + c, y + c, scale, low, high, largest, AllLanes{});
    if (whole < s.columns) largest = quantize_vector(x + whole, y + whole, scale, low, high, largest, rest);
  }
  *s.has_nan = has_nan(largest);
}

template <typename Lanes>
inline void round_to_codes_vector(const float* x, float* y, Vec scale, Vec low, Vec high, Lanes lanes) {
  const Vec code = at_most(at_least(round_even(div(load(x, lanes), scale)), low), high);  // NaN stays
  store(y, mul(add(code, zero()), scale), lanes);
}

void round_to_codes(const RoundToCodes& s) {
  const Vec low = broadcast(s.low), high = broadcast(s.high);
  const int64_t whole = s.columns - s.columns % kWidth;
  const SomeLanes rest(s.columns - whole);
  const bool one = s.scale_stride == 0;
  const Vec scale = broadcast(s.scale[0]);
  for (int64_t r = 0; r < s.rows; ++r) {
    const float* x = s.x + r * s.x_stride;
    float* y = s.y + r * s.y_stride;
    for (int64_t c = 0; c < whole; c += kWidth)
      round_to_codes_vector(x + c, y + c, one ? scale : load(s.scale + c), low, high, AllLanes{});
    if (whole == s.columns) continue;
    // Lanes past the end divide by what load() leaves there, and are not stored.
    round_to_codes_vector(x + whole, y + whole, one ? scale : load(s.scale + whole, rest), low, high, rest);
  }
}

// The ends of a row, with 0 between them.
struct RowRange {
  float high, low;
  bool has_nan;
};

inline RowRange row_range(const float* x, int64_t columns) {
  // at_least and at_most lose a NaN at the next value; the largest magnitude keeps it.
  Vec high[4] = {zero(), zero(), zero(), zero()}, low[4] = {zero(), zero(), zero(), zero()}, abs = zero();
  const auto take = [&](int64_t i, Vec v) {
    high[i] = at_least(v, high[i]);
    low[i] = at_most(v, low[i]);
    abs = larger_abs(abs, v);
  };
  int64_t c = 0;
  for (; c + 4 * kWidth <= columns; c += 4 * kWidth)
#pragma GCC unroll 4
    for (int64_t i = 0; i < 4; ++i) take(i, load(x + c + i * kWidth));
  for (; c + kWidth <= columns; c += kWidth) take(0, load(x + c));
  if (c < columns) take(1, load(x + c, SomeLanes(columns - c)));
  alignas(64) float highs[kWidth], lows[kWidth];
  store(highs, at_least(at_least(high[0], high[1]), at_least(high[2], high[3])));
  store(lows, at_most(at_most(low[0], low[1]), at_most(low[2], low[3])));
  RowRange range{0, 0, has_nan(abs)};
  for (int64_t i = 0; i < kWidth; ++i) {
    if (highs[i] > range.high) range.high = highs[i];
    if (lows[i] < range.low) range.low = lows[i];
  }
  return range;
}

template <typename Lanes>
inline void round_vector(const float* x, uint8_t* y, Vec step, Vec zero_point, Vec last, Lanes lanes) {
  const Vec code = add(round_even(div(load(x, lanes), step)), zero_point);
  store(y, at_most(at_least(zero(), code), last), lanes);  // in this order NaN gives 0
}

void quantize_asymmetric(const QuantizeAsymmetric& s) {
  const Vec last = broadcast(s.last), clip = broadcast(s.clip);
  const int64_t whole = s.columns - s.columns % kWidth;
  const SomeLanes rest(s.columns - whole), first(1);
  for (int64_t r = 0; r < s.rows; ++r) {
    const float* x = s.x + r * s.x_stride;
    uint8_t* y = s.y + r * s.y_stride;
    const RowRange range = row_range(x, s.columns);
    const Vec high = mul(broadcast(range.high), clip), low = mul(broadcast(range.low), clip);
    const Vec span = range.has_nan ? broadcast(__builtin_nanf("")) : sub(high, low);
    const Vec step = at_least(div(span, last), broadcast(kSmallestStep));
    const Vec zero_point = at_most(at_least(zero(), round_even(div(sub(zero(), low), step))), last);
    for (int64_t c = 0; c < whole; c += kWidth)
      round_vector(x + c, y + c, step, zero_point, last, AllLanes{});
    if (whole < s.columns) round_vector(x + whole, y + whole, step, zero_point, last, rest);
    store(s.step + r, step, first);
    store(s.zero + r, zero_point, first);
  }
}

inline float abs_max_row(const float* x, int64_t columns) {
  Vec largest[4] = {zero(), zero(), zero(), zero()};
  int64_t c = 0;
  for (; c + 4 * kWidth <= columns; c += 4 * kWidth)
#pragma GCC unroll 4
    for (int64_t i = 0; i < 4; ++i) largest[i] = larger_abs(largest[i], load(x + c + i * kWidth));
  for (; c + kWidth <= columns; c += kWidth) largest[0] = larger_abs(largest[0], load(x + c));
  if (c < columns) largest[1] = larger_abs(largest[1], load(x + c, SomeLanes(columns - c)));
  alignas(64) float lanes[kWidth];
  store(lanes, larger_abs(larger_abs(largest[0], largest[1]), larger_abs(largest[2], largest[3])));
  float result = lanes[0];
  for (int64_t i = 1; i < kWidth; ++i)
    if (!(lanes[i] <= result)) result = result != result ? result : lanes[i];
  return result;
}

void abs_max_rows(const AbsMaxRows& s) {
  for (int64_t r = 0; r < s.rows; ++r) s.y[r] = abs_max_row(s.x + r * s.x_stride, s.columns);
}

inline float sum_of_squares(const float* x, int64_t columns) {
  Vec sum[4] = {zero(), zero(), zero(), zero()};
  int64_t c = 0;
  for (; c + 4 * kWidth <= columns; c += 4 * kWidth) {
#pragma GCC unroll 4
    for (int64_t i = 0; i < 4; ++i) {
      const Vec v = load(x + c + i * kWidth);
      sum[i] = fma(v, v, sum[i]);
    }
  }
  for (; c < columns; c += kWidth) {
    const Vec v = load(x + c, SomeLanes(columns - c < kWidth ? columns - c : kWidth));
    sum[0] = fma(v, v, sum[0]);
  }
  return sum_lanes(add(add(sum[0], sum[1]), add(sum[2], sum[3])));
}

void rms_norm(const RmsNorm& s) {
  const int64_t whole = s.columns - s.columns % kWidth;
  const SomeLanes rest(s.columns - whole);
  for (int64_t r = 0; r < s.rows; ++r) {
    const float* x = s.x + r * s.x_stride;
    float* y = s.y + r * s.y_stride;
    const float mean = sum_of_squares(x, s.columns) / static_cast<float>(s.columns);
    const Vec factor = broadcast(1.0f / __builtin_sqrtf(mean + s.eps));
    for (int64_t c = 0; c < whole; c += kWidth) store(y + c, mul(mul(load(x + c), factor), load(s.gain + c)));
    if (whole < s.columns)
      store(y + whole, mul(mul(load(x + whole, rest), factor), load(s.gain + whole, rest)), rest);
  }
}

void gather_columns(const GatherColumns& s) {
  const int64_t whole = s.columns - s.columns % kWidth;
  const SomeLanes rest(s.columns - whole);
  for (int64_t r = 0; r < s.rows; ++r) {
    const float* x = s.x + r * s.x_stride;
    float* y = s.y + r * s.y_stride;
    for (int64_t c = 0; c < whole; c += kWidth) store(y + c, gather(x, s.index + c, AllLanes{}));
    if (whole < s.columns) store(y + whole, gather(x, s.index + whole, rest), rest);
  }
}

}  // namespace
}  // namespace ptq::kernels
