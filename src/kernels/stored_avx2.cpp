// What is computed with rows as they are stored, compiled for AVX2 with F16C. Includes no header whose inline
// functions could end up in the rest of the program: they would be compiled for this instruction set.
#include "kernels/tables.h"
#include "kernels/vec_avx2.h"

namespace ptq::kernels {
namespace {

struct Table {
  explicit Table(const float* values) : low(load(values)), high(load(values + 8)) {}
  __m256 low, high;
};

// The place's upper bit, the sign of an index moved up by 28, chooses the half of the table.
inline Vec look_up(const Table& table, __m256i places, __m256i signs) {
  return _mm256_blendv_ps(_mm256_permutevar8x32_ps(table.low, places),
                          _mm256_permutevar8x32_ps(table.high, places), _mm256_castsi256_ps(signs));
}
// The half bytes of kWidth bytes. The lookup takes the low three bits of an index.
inline Vec look_up_low(const Table& table, const uint8_t* p) {
  const __m256i bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  return look_up(table, bytes, _mm256_slli_epi32(bytes, 28));
}
inline Vec look_up_high(const Table& table, const uint8_t* p) {
  const __m256i bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  return look_up(table, _mm256_srli_epi32(bytes, 4), _mm256_slli_epi32(bytes, 24));
}
inline Vec widen_f16(const void* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}
inline Vec widen_bf16(const void* p) {
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
inline Vec widen_i8(const void* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p))));
}

constexpr int kColumnsOfOneRow = 4;

}  // namespace
}  // namespace ptq::kernels

#include "kernels/vector_math.h"
#include "kernels/vector_stored.h"

namespace ptq::kernels {

template <>
void run<Isa::kAvx2>(const WidenRows& s) {
  widen(s);
}
template <>
void run<Isa::kAvx2>(const StoredProduct& s) {
  multiply(s);
}
template <>
void run<Isa::kAvx2>(const WeightedRows& s) {
  weigh(s);
}
template <>
void run<Isa::kAvx2>(const Softmax& s) {
  softmax(s);
}

}  // namespace ptq::kernels
