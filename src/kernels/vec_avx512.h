// A vector of 16 floats on AVX-512 (F, BW, VL, DQ), in the words that vec_avx2.h also speaks. The kernels in
// vector_*.h are written once in these words and compiled in kernels_avx512.cpp and kernels_avx2.cpp.
//
// All of it is in an anonymous namespace on purpose: each file that includes this gets its own copy, compiled
// with its own flags.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace ptq::kernels {
namespace {

using Vec = __m512;
constexpr int64_t kWidth = 16;
constexpr int64_t kStateGroup = 16;  // states kept in registers by the scan, of 32 registers

// Which lanes a load or a store touches; the others read as 0.
struct AllLanes {};
struct SomeLanes {
  explicit SomeLanes(int64_t count) : mask(static_cast<__mmask16>((1u << count) - 1)) {}
  __mmask16 mask;
};

inline Vec load(const float* p, AllLanes = {}) {
  return _mm512_loadu_ps(p);
}
inline Vec load(const float* p, SomeLanes lanes) {
  return _mm512_maskz_loadu_ps(lanes.mask, p);
}
inline void store(float* p, Vec v, AllLanes = {}) {
  _mm512_storeu_ps(p, v);
}
inline void store(float* p, Vec v, SomeLanes lanes) {
  _mm512_mask_storeu_ps(p, lanes.mask, v);
}

// Of whole numbers that the bytes hold.
inline void store(int8_t* p, Vec v, AllLanes = {}) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(v)));
}
inline void store(int8_t* p, Vec v, SomeLanes lanes) {
  _mm512_mask_cvtsepi32_storeu_epi8(p, lanes.mask, _mm512_cvtps_epi32(v));
}
inline void store(uint8_t* p, Vec v, AllLanes = {}) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(v)));
}
inline void store(uint8_t* p, Vec v, SomeLanes lanes) {
  _mm512_mask_cvtusepi32_storeu_epi8(p, lanes.mask, _mm512_cvtps_epi32(v));
}

// p[index[i]]
inline Vec gather(const float* p, const int32_t* index, AllLanes) {
  return _mm512_i32gather_ps(_mm512_loadu_si512(index), p, 4);
}
inline Vec gather(const float* p, const int32_t* index, SomeLanes lanes) {
  const __m512i places = _mm512_maskz_loadu_epi32(lanes.mask, index);
  return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), lanes.mask, places, p, 4);
}

inline Vec zero() {
  return _mm512_setzero_ps();
}
inline Vec broadcast(float x) {
  return _mm512_set1_ps(x);
}
inline Vec add(Vec a, Vec b) {
  return _mm512_add_ps(a, b);
}
inline Vec sub(Vec a, Vec b) {
  return _mm512_sub_ps(a, b);
}
inline Vec mul(Vec a, Vec b) {
  return _mm512_mul_ps(a, b);
}
inline Vec div(Vec a, Vec b) {
  return _mm512_div_ps(a, b);
}
// a b + c, rounded once
inline Vec fma(Vec a, Vec b, Vec c) {
  return _mm512_fmadd_ps(a, b, c);
}
// c - a b, rounded once
inline Vec fnma(Vec a, Vec b, Vec c) {
  return _mm512_fnmadd_ps(a, b, c);
}
// If v is NaN, or equal to the bound, the result is v.
inline Vec at_least(Vec v, Vec bound) {
  return _mm512_max_ps(bound, v);
}
inline Vec at_most(Vec v, Vec bound) {
  return _mm512_min_ps(bound, v);
}
inline Vec round_even(Vec v) {
  return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline Vec negative_abs(Vec v) {
  return _mm512_or_ps(v, _mm512_set1_ps(-0.0f));
}

// Halves are added to each other until four lanes are left.
inline __m128 sum_to_four(Vec v) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  return _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
}

// For v = n + r with n the nearest integer: r, then p 2^n. r is 0 for an infinite v.
inline Vec clamp_exponent(Vec v) {
  return v;
}
inline Vec fraction(Vec v) {
  return _mm512_reduce_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline Vec scale_by_power(Vec p, Vec v, Vec r) {
  return _mm512_scalef_ps(p, _mm512_sub_ps(v, r));
}

// Keeps the larger magnitude by comparing bits as integers, where NaN is larger than infinity.
inline Vec larger_abs(Vec largest, Vec v) {
  const __m512i bits = _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(0x7fffffff));
  return _mm512_castsi512_ps(_mm512_max_epi32(_mm512_castps_si512(largest), bits));
}

// One stage of the Walsh-Hadamard transform inside the vector: lanes `half` apart become a + b and a - b. The
// factor of -1 is exact, so the fma rounds as the sum or difference does.
template <int half>
inline Vec butterfly_lanes(Vec v) {
  Vec swapped = v;
  if constexpr (half == 1) swapped = _mm512_permute_ps(v, 0xb1);
  if constexpr (half == 2) swapped = _mm512_permute_ps(v, 0x4e);
  if constexpr (half == 4) swapped = _mm512_shuffle_f32x4(v, v, 0xb1);
  if constexpr (half == 8) swapped = _mm512_shuffle_f32x4(v, v, 0x4e);
  constexpr __mmask16 kSecond = half == 1 ? 0xaaaa : half == 2 ? 0xcccc : half == 4 ? 0xf0f0 : 0xff00;
  return _mm512_mask_sub_ps(_mm512_add_ps(v, swapped), kSecond, swapped, v);
}

// dst[j][i] = src[i][j] for 16 x 16 floats.
inline void transpose_tile(const float* src, int64_t src_stride, float* dst, int64_t dst_stride) {
  __m512 a[16], b[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) a[i] = load(src + i * src_stride);
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {  // pairs of rows
    b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
    b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {  // a[i + q]: column q of each quarter, rows i to i + 3
    a[i] = _mm512_shuffle_ps(b[i], b[i + 2], 0x44);
    a[i + 1] = _mm512_shuffle_ps(b[i], b[i + 2], 0xee);
    a[i + 2] = _mm512_shuffle_ps(b[i + 1], b[i + 3], 0x44);
    a[i + 3] = _mm512_shuffle_ps(b[i + 1], b[i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int q = 0; q < 4; ++q) {  // gather the quarters of four rows each
    const __m512 low_even = _mm512_shuffle_f32x4(a[q], a[q + 4], 0x88);
    const __m512 low_odd = _mm512_shuffle_f32x4(a[q], a[q + 4], 0xdd);
    const __m512 high_even = _mm512_shuffle_f32x4(a[q + 8], a[q + 12], 0x88);
    const __m512 high_odd = _mm512_shuffle_f32x4(a[q + 8], a[q + 12], 0xdd);
    store(dst + q * dst_stride, _mm512_shuffle_f32x4(low_even, high_even, 0x88));
    store(dst + (q + 4) * dst_stride, _mm512_shuffle_f32x4(low_odd, high_odd, 0x88));
    store(dst + (q + 8) * dst_stride, _mm512_shuffle_f32x4(low_even, high_even, 0xdd));
    store(dst + (q + 12) * dst_stride, _mm512_shuffle_f32x4(low_odd, high_odd, 0xdd));
  }
}

}  // namespace
}  // namespace ptq::kernels
