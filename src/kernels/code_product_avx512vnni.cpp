// code_product compiled for AVX-512 with VNNI. Includes no header whose inline functions could end up in the
// rest of the program: they would be compiled for this instruction set.
//
// 6 rows times 4 tiles are 24 of the 32 registers; 4 loads and 6 broadcasts feed 24 multiply-adds of 64
// products each.
#include "kernels/vec_avx512.h"

namespace ptq::kernels {
namespace {

using Ints = __m512i;

inline Ints load_ints(const int32_t* p) {
  return _mm512_loadu_si512(p);
}
inline Ints load_bytes(const uint8_t* p) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline Ints broadcast_int(int32_t x) {
  return _mm512_set1_epi32(x);
}
inline Ints add(Ints a, Ints b) {
  return _mm512_add_epi32(a, b);
}
inline Ints sub(Ints a, Ints b) {
  return _mm512_sub_epi32(a, b);
}
inline Ints mul(Ints a, Ints b) {
  return _mm512_mullo_epi32(a, b);
}
inline Vec to_floats(Ints x) {
  return _mm512_cvtepi32_ps(x);
}

struct Bytes {
  static constexpr int kVectors = 1;
  static constexpr int64_t kStepQuads = 1;
  static constexpr int64_t kMostSteps = 0;
  static constexpr int kRowsAtOnce = 6;
  static constexpr int kRowsInGroups = 3;
  static constexpr int tiles_at_once(int rows) { return rows == 1 ? 8 : 4; }

  static Ints load_tile(const uint8_t* p, int, int) { return _mm512_loadu_si512(p); }
  static Ints load_codes(const int8_t* p) {
    int32_t four = 0;
    __builtin_memcpy(&four, p, 4);
    return _mm512_set1_epi32(four);
  }
  static Ints add_products(Ints sum, Ints tile, Ints row) { return _mm512_dpbusd_epi32(sum, tile, row); }
  static Ints columns_of(const Ints* sums, int) { return sums[0]; }
};

struct Nibbles : Bytes {
  static constexpr int64_t kStepQuads = 2;

  static Ints load_tile(const uint8_t* p, int, int quad) {
    const Ints bytes = _mm512_loadu_si512(p);
    return _mm512_and_si512(quad == 0 ? bytes : _mm512_srli_epi16(bytes, 4), _mm512_set1_epi8(15));
  }
};

}  // namespace
}  // namespace ptq::kernels

#include "kernels/vector_code_product.h"

namespace ptq::kernels {

template <>
void run<Isa::kAvx512Vnni>(const CodeProduct& s) {
  code_product(s);
}

}  // namespace ptq::kernels
