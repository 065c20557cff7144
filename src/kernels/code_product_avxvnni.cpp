// code_product compiled for AVX2 with AVX-VNNI: dpbusd on 256 bits, without AVX-512. Includes no header whose
// inline functions could end up in the rest of the program: they would be compiled for this instruction set.
#include "kernels/ints_avx2.h"

namespace ptq::kernels {
namespace {

using Codes = __m256i;

constexpr int kVectors = 2;
constexpr int kRowsAtOnce = 5;
constexpr int kRowsInGroups = 5;
constexpr int tiles_at_once(int rows) {
  return rows <= 2 ? 2 : 1;
}

inline Ints load_tile(const uint8_t* p, int i) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p) + i);
}
inline Codes load_codes(const int8_t* p) {
  int32_t four = 0;
  __builtin_memcpy(&four, p, 4);
  return _mm256_set1_epi32(four);
}
inline Ints add_products(Ints sum, Ints tile, Codes row) {
  return _mm256_dpbusd_avx_epi32(sum, tile, row);
}
inline Ints columns_of(const Ints* sums, int part) {
  return sums[part];
}

}  // namespace
}  // namespace ptq::kernels

#include "kernels/vector_code_product.h"

namespace ptq::kernels {

template <>
void run<Isa::kAvxVnni>(const CodeProduct& s) {
  code_product(s);
}

}  // namespace ptq::kernels
