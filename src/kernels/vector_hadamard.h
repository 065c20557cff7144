// The Hadamard transform of size m 2^k: fast Walsh-Hadamard inside chunks of 2^k, then the left factor across
// them.
//
// Stage `half` of a chunk turns values `half` apart into a + b and a - b. Stages inside a vector are lane
// swaps; the following ones work on whole vectors. Up to three of those run on 8 vectors in registers before
// anything is written, so 2^10 values take two trips through L1. The left factor is an m x m product on
// columns: kWidth columns are copied to a tile, since the outputs go where the inputs were.
//
// Costs n (k + m) additions for n = m 2^k. Every sum adds the same numbers in the same order as the plain
// loops, so the bits are the same.
//
// Include after one of vec_avx2.h and vec_avx512.h.
#pragma once

namespace ptq::kernels {
namespace {

// 1, 2 or 3 stages (kVectors = 2, 4, 8) on vectors `half` floats apart, the first stage being `half`. kFirst
// also runs the stages inside the vectors before. x may be y.
template <int64_t kVectors, bool kFirst>
inline void butterflies(const float* x, float* y, int64_t half, Vec factor) {
  Vec v[kVectors];
#pragma GCC unroll 8
  for (int64_t i = 0; i < kVectors; ++i) {
    v[i] = load(x + i * half);
    if constexpr (kFirst) {
      v[i] = butterfly_lanes<4>(butterfly_lanes<2>(butterfly_lanes<1>(v[i])));
      if constexpr (kWidth == 16) v[i] = butterfly_lanes<kWidth / 2>(v[i]);
    }
  }
#pragma GCC unroll 3
  for (int64_t step = 1; step < kVectors; step *= 2) {
#pragma GCC unroll 8
    for (int64_t i = 0; i < kVectors; ++i) {
      if (i & step) continue;
      const Vec a = v[i], b = v[i + step];
      v[i] = add(a, b);
      v[i + step] = sub(a, b);
    }
  }
#pragma GCC unroll 8
  for (int64_t i = 0; i < kVectors; ++i) store(y + i * half, mul(v[i], factor));
}

// One trip through a chunk: the stages half, 2 half, ... up to kVectors * half / 2.
template <int64_t kVectors, bool kFirst>
void transform_pass(const float* x, float* y, int64_t chunk, int64_t half, Vec factor) {
  for (int64_t begin = 0; begin < chunk; begin += kVectors * half)
    for (int64_t i = begin; i < begin + half; i += kWidth)
      butterflies<kVectors, kFirst>(x + i, y + i, half, factor);
}

template <bool kFirst>
int64_t transform_next(const float* x, float* y, int64_t chunk, int64_t half, float factor) {
  const int64_t left = chunk / half;  // 2^(stages to go)
  const Vec last = broadcast(left <= 8 ? factor : 1.0f);
  if (left >= 8) return transform_pass<8, kFirst>(x, y, chunk, half, last), half * 8;
  if (left == 4) return transform_pass<4, kFirst>(x, y, chunk, half, last), half * 4;
  if (left == 2) return transform_pass<2, kFirst>(x, y, chunk, half, last), half * 2;
  return transform_pass<1, kFirst>(x, y, chunk, half, last), half;
}

// chunk >= kWidth, a power of two; scaled by `factor` at the end.
inline void transform_chunk(const float* x, float* y, int64_t chunk, float factor) {
  int64_t half = transform_next<true>(x, y, chunk, kWidth, factor);
  while (half < chunk) half = transform_next<false>(y, y, chunk, half, factor);
}

// Chunks shorter than a vector.
inline void transform_short_chunk(const float* x, float* y, int64_t chunk, float factor) {
  for (int64_t i = 0; i < chunk; ++i) y[i] = x[i];
  for (int64_t half = 1; half < chunk; half *= 2) {
    for (int64_t i = 0; i < chunk; ++i) {
      if (i & half) continue;
      const float a = y[i], b = y[i + half];
      y[i] = a + b;
      y[i + half] = a - b;
    }
  }
  for (int64_t i = 0; i < chunk; ++i) y[i] *= factor;
}

// kRows rows of the left factor times the tile: as many chains of additions as hide the latency of one.
template <int64_t kRows>
inline void left_rows(const Hadamard& s, int64_t row, const float* tile, float* y, Vec factor) {
  const float* left = s.left + row * s.m;
  Vec sum[kRows];
#pragma GCC unroll 4
  for (int64_t i = 0; i < kRows; ++i) sum[i] = mul(broadcast(left[i * s.m]), load(tile));
  for (int64_t j = 1; j < s.m; ++j) {
    const Vec v = load(tile + j * kWidth);
#pragma GCC unroll 4
    for (int64_t i = 0; i < kRows; ++i) sum[i] = fma(broadcast(left[i * s.m + j]), v, sum[i]);
  }
#pragma GCC unroll 4
  for (int64_t i = 0; i < kRows; ++i) store(y + i * kWidth, mul(sum[i], factor));
}

// y [m, chunk] = left y, in place.
inline void multiply_left(const Hadamard& s, float* y, int64_t chunk, Vec factor) {
  alignas(64) float in[kMaxHadamardLeft * kWidth];
  alignas(64) float out[kMaxHadamardLeft * kWidth];
  for (int64_t p = 0; p < chunk; p += kWidth) {
    const int64_t count = chunk - p < kWidth ? chunk - p : kWidth;
    const SomeLanes lanes(count);
    for (int64_t j = 0; j < s.m; ++j) store(in + j * kWidth, load(y + j * chunk + p, lanes));
    int64_t row = 0;
    for (; row + 4 <= s.m; row += 4) left_rows<4>(s, row, in, out + row * kWidth, factor);
    for (; row < s.m; ++row) left_rows<1>(s, row, in, out + row * kWidth, factor);
    for (int64_t j = 0; j < s.m; ++j) store(y + j * chunk + p, load(out + j * kWidth), lanes);
  }
}

// `factor` is 1 / sqrt(block).
inline void transform_block(const Hadamard& s, const float* x, float* y, float factor) {
  const int64_t chunk = s.block / s.m;
  const bool trivial_left = s.m == 1 && s.left[0] == 1.0f;
  const float chunk_factor = trivial_left ? factor : 1.0f;
  for (int64_t begin = 0; begin < s.block; begin += chunk) {
    if (chunk >= kWidth) {
      transform_chunk(x + begin, y + begin, chunk, chunk_factor);
    } else {
      transform_short_chunk(x + begin, y + begin, chunk, chunk_factor);
    }
  }
  if (!trivial_left) multiply_left(s, y, chunk, broadcast(factor));
}

void hadamard(const Hadamard& s) {
  const float factor = static_cast<float>(1.0 / __builtin_sqrt(static_cast<double>(s.block)));
  for (int64_t r = 0; r < s.rows; ++r)
    for (int64_t begin = 0; begin < s.columns; begin += s.block)
      transform_block(s, s.x + r * s.x_stride + begin, s.y + r * s.y_stride + begin, factor);
}

}  // namespace
}  // namespace ptq::kernels
