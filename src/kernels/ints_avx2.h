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
inline Ints sub(Ints a, Ints b) {
  return _mm256_sub_epi32(a, b);
}
inline Ints mul(Ints a, Ints b) {
  return _mm256_mullo_epi32(a, b);
}
inline Vec to_floats(Ints x) {
  return _mm256_cvtepi32_ps(x);
}

}  // namespace
}  // namespace ptq::kernels
