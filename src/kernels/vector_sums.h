// Sums of the lanes of vectors, in one order: halves are added to each other until one lane is left.
//
// Include after one of vec_avx2.h and vec_avx512.h.
#pragma once

namespace ptq::kernels {
namespace {

inline float sum_lanes(Vec v) {
  const __m128 four = sum_to_four(v), two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// y[i] = sum_lanes(v[i]) for i < 4, at little more than the cost of one.
inline void sum_lanes_of_four(const Vec* v, float* y) {
  __m128 a = sum_to_four(v[0]), b = sum_to_four(v[1]), c = sum_to_four(v[2]), d = sum_to_four(v[3]);
  _MM_TRANSPOSE4_PS(a, b, c, d);
  _mm_storeu_ps(y, _mm_add_ps(_mm_add_ps(a, c), _mm_add_ps(b, d)));
}

}  // namespace
}  // namespace ptq::kernels
