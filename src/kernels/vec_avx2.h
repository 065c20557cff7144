// A vector of 8 floats on AVX2 with FMA, in the words of vec_avx512.h, which says how the two are used.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace ptq::kernels {
namespace {

using Vec = __m256;
constexpr int64_t kWidth = 8;
constexpr int64_t kStateGroup = 4;  // states kept in registers by the scan, of 16 registers

struct AllLanes {};
struct SomeLanes {
  explicit SomeLanes(int64_t lanes)
      : mask(_mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(lanes)),
                                _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))),
        count(static_cast<size_t>(lanes)) {}
  __m256i mask;
  size_t count;
};

inline Vec load(const float* p, AllLanes = {}) {
  return _mm256_loadu_ps(p);
}
inline Vec load(const float* p, SomeLanes lanes) {
  return _mm256_maskload_ps(p, lanes.mask);
}
inline void store(float* p, Vec v, AllLanes = {}) {
  _mm256_storeu_ps(p, v);
}
inline void store(float* p, Vec v, SomeLanes lanes) {
  _mm256_maskstore_ps(p, lanes.mask, v);
}

// Of whole numbers that the bytes hold; here in 16 bits each.
inline __m128i narrow(Vec v) {
  const __m256i wide = _mm256_cvtps_epi32(v);
  return _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
}
inline void store(int8_t* p, Vec v, AllLanes = {}) {
  const __m128i half = narrow(v);
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(half, half));
}
inline void store(uint8_t* p, Vec v, AllLanes = {}) {
  const __m128i half = narrow(v);
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(half, half));
}
template <typename Byte>
inline void store(Byte* p, Vec v, SomeLanes lanes) {
  Byte bytes[kWidth];
  store(bytes, v);
  __builtin_memcpy(p, bytes, lanes.count);
}

inline Vec gather(const float* p, const int32_t* index, AllLanes) {
  return _mm256_i32gather_ps(p, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(index)), 4);
}
inline Vec gather(const float* p, const int32_t* index, SomeLanes lanes) {
  const __m256i places = _mm256_maskload_epi32(index, lanes.mask);
  return _mm256_mask_i32gather_ps(_mm256_setzero_ps(), p, places, _mm256_castsi256_ps(lanes.mask), 4);
}

inline Vec zero() {
  return _mm256_setzero_ps();
}
inline Vec broadcast(float x) {
  return _mm256_set1_ps(x);
}
inline Vec add(Vec a, Vec b) {
  return _mm256_add_ps(a, b);
}
inline Vec sub(Vec a, Vec b) {
  return _mm256_sub_ps(a, b);
}
inline Vec mul(Vec a, Vec b) {
  return _mm256_mul_ps(a, b);
}
inline Vec div(Vec a, Vec b) {
  return _mm256_div_ps(a, b);
}
inline Vec fma(Vec a, Vec b, Vec c) {
  return _mm256_fmadd_ps(a, b, c);
}
inline Vec fnma(Vec a, Vec b, Vec c) {
  return _mm256_fnmadd_ps(a, b, c);
}
inline Vec at_least(Vec v, Vec bound) {
  return _mm256_max_ps(bound, v);
}
inline Vec at_most(Vec v, Vec bound) {
  return _mm256_min_ps(bound, v);
}
inline Vec round_even(Vec v) {
  return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline Vec negative_abs(Vec v) {
  return _mm256_or_ps(v, _mm256_set1_ps(-0.0f));
}

// Halves are added to each other until four lanes are left.
inline __m128 sum_to_four(Vec v) {
  return _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
}

// 2^n is made by writing n + 127 into the exponent bits. The ends of the range fall out right: -127 writes
// the bits of 0, 128 those of infinity.
inline Vec clamp_exponent(Vec v) {
  return at_most(at_least(v, _mm256_set1_ps(-127.0f)), _mm256_set1_ps(128.0f));
}
inline Vec fraction(Vec v) {
  return sub(v, round_even(v));
}
inline Vec scale_by_power(Vec p, Vec v, Vec r) {
  const __m256i n = _mm256_cvtps_epi32(sub(v, r));
  return mul(p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23)));
}

inline Vec larger_abs(Vec largest, Vec v) {
  const __m256i bits = _mm256_and_si256(_mm256_castps_si256(v), _mm256_set1_epi32(0x7fffffff));
  return _mm256_castsi256_ps(_mm256_max_epi32(_mm256_castps_si256(largest), bits));
}

template <int half>
inline Vec butterfly_lanes(Vec v) {
  Vec swapped = v;
  if constexpr (half == 1) swapped = _mm256_permute_ps(v, 0xb1);
  if constexpr (half == 2) swapped = _mm256_permute_ps(v, 0x4e);
  if constexpr (half == 4) swapped = _mm256_permute2f128_ps(v, v, 0x01);
  constexpr int kSecond = half == 1 ? 0xaa : half == 2 ? 0xcc : 0xf0;
  return _mm256_blend_ps(_mm256_add_ps(v, swapped), _mm256_sub_ps(swapped, v), kSecond);
}

// dst[j][i] = src[i][j] for 8 x 8 floats.
inline void transpose_tile(const float* src, int64_t src_stride, float* dst, int64_t dst_stride) {
  __m256 a[8], b[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) a[i] = load(src + i * src_stride);
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
    b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    a[i] = _mm256_shuffle_ps(b[i], b[i + 2], 0x44);
    a[i + 1] = _mm256_shuffle_ps(b[i], b[i + 2], 0xee);
    a[i + 2] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0x44);
    a[i + 3] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int q = 0; q < 4; ++q) {
    store(dst + q * dst_stride, _mm256_permute2f128_ps(a[q], a[q + 4], 0x20));
    store(dst + (q + 4) * dst_stride, _mm256_permute2f128_ps(a[q], a[q + 4], 0x31));
  }
}

}  // namespace
}  // namespace ptq::kernels
