// code_product compiled for AVX2. Includes no header whose inline functions could end up in the rest of the
// program: they would be compiled for this instruction set.
//
// The instruction that multiplies bytes saturates its sums of two products at 16 bits, which 8-bit codes
// pass. So these are widened to 16 bits first; products of those are added in pairs, in 32 bits. A quad has
// two pairs: a vector holds 4 columns, and its pairs are added at the end of a group.
//
// 4-bit codes give sums of two of at most 2 * 15 * 128: 16 bits hold 8 of them.
#include "kernels/ints_avx2.h"

namespace ptq::kernels {
namespace {

struct Bytes {
  static constexpr int kVectors = 4;
  static constexpr int64_t kStepQuads = 1;
  static constexpr int64_t kMostSteps = 0;
  static constexpr int kRowsAtOnce = 2;
  static constexpr int kRowsInGroups = 2;
  static constexpr int tiles_at_once(int rows) { return rows == 1 ? 2 : 1; }

  static Ints load_tile(const uint8_t* p, int i, int) {
    return _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p) + i));
  }
  static Ints load_codes(const int8_t* p) {
    return _mm256_cvtepi8_epi16(_mm256_castsi256_si128(repeat_quad(p)));
  }
  static Ints add_products(Ints sum, Ints tile, Ints row) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(tile, row));
  }
  static Ints columns_of(const Ints* sums, int part) {
    const Ints added = _mm256_hadd_epi32(sums[2 * part], sums[2 * part + 1]);
    return _mm256_permute4x64_epi64(added, 0xd8);  // the pairs of lanes are 0 2 1 3 of 4
  }
};

struct Nibbles {
  static constexpr int kVectors = 2;
  static constexpr int64_t kStepQuads = 2;
  static constexpr int64_t kMostSteps = 4;
  static constexpr int kRowsAtOnce = 4;
  static constexpr int kRowsInGroups = 4;
  static constexpr int tiles_at_once(int rows) { return rows == 1 ? 4 : rows == 2 ? 2 : 1; }

  static Ints load_tile(const uint8_t* p, int i, int quad) { return load_nibbles(p + 32 * i, quad); }
  static Ints load_codes(const int8_t* p) { return repeat_quad(p); }
  static Ints add_products(Ints sum, Ints tile, Ints row) {
    return _mm256_add_epi16(sum, _mm256_maddubs_epi16(tile, row));
  }
  static Ints widen(Ints sum) { return _mm256_madd_epi16(sum, _mm256_set1_epi16(1)); }
  static Ints columns_of(const Ints* sums, int part) { return sums[part]; }
};

}  // namespace
}  // namespace ptq::kernels

#include "kernels/vector_code_product.h"

namespace ptq::kernels {

template <>
void run<Isa::kAvx2>(const CodeProduct& s) {
  code_product(s);
}

}  // namespace ptq::kernels
