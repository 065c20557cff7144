// code_product compiled for AVX2. Includes no header whose inline functions could end up in the rest of the
// program: they would be compiled for this instruction set.
//
// The instruction that multiplies bytes saturates its sums of two products at 16 bits, which 8-bit codes
// pass. So codes are widened to 16 bits first; products of those are added in pairs, in 32 bits. A quad has
// two pairs: a vector holds 4 columns, and its pairs are added at the end of a group.
#include "kernels/ints_avx2.h"

namespace ptq::kernels {
namespace {

using Codes = __m256i;

constexpr int kVectors = 4;
constexpr int kRowsAtOnce = 2;
constexpr int kRowsInGroups = 2;
constexpr int tiles_at_once(int rows) {
  return rows == 1 ? 2 : 1;
}

inline Ints load_tile(const uint8_t* p, int i) {
  return _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p) + i));
}
inline Codes load_codes(const int8_t* p) {
  float four = 0;  // a load of a float repeats it without a shuffle
  __builtin_memcpy(&four, p, 4);
  return _mm256_cvtepi8_epi16(_mm_castps_si128(_mm_set1_ps(four)));
}
inline Ints add_products(Ints sum, Ints tile, Codes row) {
  return _mm256_add_epi32(sum, _mm256_madd_epi16(tile, row));
}
inline Ints columns_of(const Ints* sums, int part) {
  const Ints added = _mm256_hadd_epi32(sums[2 * part], sums[2 * part + 1]);
  return _mm256_permute4x64_epi64(added, 0xd8);  // the pairs of lanes are 0 2 1 3 of 4
}

}  // namespace
}  // namespace ptq::kernels

#include "kernels/vector_code_product.h"

namespace ptq::kernels {

template <>
void run<Isa::kAvx2>(const CodeProduct& s) {
  code_product(s);
}

}  // namespace ptq::kernels
