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
inline Ints sub(Ints a, Ints b) {
  return _mm512_sub_epi32(a, b);
}
inline Ints mul(Ints a, Ints b) {
  return _mm512_mullo_epi32(a, b);
}
inline Vec to_floats(Ints x) {
  return _mm512_cvtepi32_ps(x);
}

using Codes = __m512i;

constexpr int kVectors = 1;
constexpr int kRowsAtOnce = 6;
constexpr int kRowsInGroups = 3;
constexpr int tiles_at_once(int rows) {
  return rows == 1 ? 8 : 4;
}

inline Ints load_tile(const uint8_t* p, int) {
  return _mm512_loadu_si512(p);
}
inline Codes load_codes(const int8_t* p) {
  int32_t four = 0;
  __builtin_memcpy(&four, p, 4);
  return _mm512_set1_epi32(four);
}
inline Ints add_products(Ints sum, Ints tile, Codes row) {
  return _mm512_dpbusd_epi32(sum, tile, row);
}
inline Ints columns_of(const Ints* sums, int) {
  return sums[0];
}

}  // namespace
}  // namespace ptq::kernels

#include "kernels/vector_code_product.h"

namespace ptq::kernels {

template <>
void run<Isa::kAvx512Vnni>(const CodeProduct& s) {
  code_product(s);
}

}  // namespace ptq::kernels
