// A vector of 8 integers on AVX2, in the words of vector_code_product.h.
#pragma once

#include "kernels/vec_avx2.h"

namespace ptq::kernels {
namespace {

using Ints = __m256i;

inline Ints load_ints(const int32_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
inline Ints load_bytes(const uint8_t* p) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
inline Ints broadcast_int(int32_t x) {
  return _mm256_set1_epi32(x);
}
inline Ints add(Ints a, Ints b) {
  return _mm256_add_epi32(a, b);
}
inline Ints sub(Ints a, Ints b) {
  return _mm256_sub_epi32(a, b);
}
inline Ints mul(Ints a, Ints b) {
  return _mm256_mullo_epi32(a, b);
}
inline Vec to_floats(Ints x) {
  return _mm256_cvtepi32_ps(x);
}

// A quad of codes, as many times as there is room for.
inline Ints repeat_quad(const int8_t* p) {
  float four = 0;  // a load of a float repeats it without a shuffle
  __builtin_memcpy(&four, p, 4);
  return _mm256_castps_si256(_mm256_set1_ps(four));
}
// The codes of 8 columns in one half, 0 or 1, of 32 bytes.
inline Ints load_nibbles(const uint8_t* p, int half) {
  const Ints bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm256_and_si256(half == 0 ? bytes : _mm256_srli_epi16(bytes, 4), _mm256_set1_epi8(15));
}

}  // namespace
}  // namespace ptq::kernels
