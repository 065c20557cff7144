// What is computed with rows as they are stored, compiled for AVX-512. Includes no header whose inline
// functions could end up in the rest of the program: they would be compiled for this instruction set.
#include "kernels/tables.h"
#include "kernels/vec_avx512.h"

namespace ptq::kernels {
namespace {

struct Table {
  explicit Table(const float* values) : all(load(values)) {}
  __m512 all;
};

// The half bytes of kWidth bytes. The lookup takes the low four bits of an index.
inline Vec look_up_low(const Table& table, const uint8_t* p) {
  const __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return _mm512_permutexvar_ps(bytes, table.all);
}
inline Vec look_up_high(const Table& table, const uint8_t* p) {
  const __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return _mm512_permutexvar_ps(_mm512_srli_epi32(bytes, 4), table.all);
}
inline Vec widen_f16(const void* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
}
inline Vec widen_bf16(const void* p) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
inline Vec widen_i8(const void* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p))));
}

constexpr int kColumnsOfOneRow = 8;

}  // namespace
}  // namespace ptq::kernels

#include "kernels/vector_math.h"
#include "kernels/vector_stored.h"

namespace ptq::kernels {

template <>
void run<Isa::kAvx512>(const WidenRows& s) {
  widen(s);
}
template <>
void run<Isa::kAvx512>(const StoredProduct& s) {
  multiply(s);
}
template <>
void run<Isa::kAvx512>(const WeightedRows& s) {
  weigh(s);
}
template <>
void run<Isa::kAvx512>(const Softmax& s) {
  softmax(s);
}

}  // namespace ptq::kernels
