// code_product compiled for AVX2 with AVX-VNNI: dpbusd on 256 bits, without AVX-512. Includes no header whose
// inline functions could end up in the rest of the program: they would be compiled for this instruction set.
#include "kernels/ints_avx2.h"

namespace ptq::kernels {
namespace {

struct Bytes {
  static constexpr int kVectors = 2;
  static constexpr int64_t kStepQuads = 1;
  static constexpr int64_t kMostSteps = 0;
  static constexpr int kRowsAtOnce = 5;
  static constexpr int kRowsInGroups = 5;
  static constexpr int tiles_at_once(int rows) { return rows <= 2 ? 2 : 1; }

  static Ints load_tile(const uint8_t* p, int i, int) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p) + i);
  }
  static Ints load_codes(const int8_t* p) { return repeat_quad(p); }
  static Ints add_products(Ints sum, Ints tile, Ints row) { return _mm256_dpbusd_avx_epi32(sum, tile, row); }
  static Ints columns_of(const Ints* sums, int part) { return sums[part]; }
};

// 2 rows times 2 tiles leave registers for the mask and for the bytes that are taken apart.
struct Nibbles : Bytes {
  static constexpr int64_t kStepQuads = 2;
  static constexpr int kRowsAtOnce = 2;
  static constexpr int kRowsInGroups = 2;
  static constexpr int tiles_at_once(int rows) { return rows == 1 ? 4 : 2; }

  static Ints load_tile(const uint8_t* p, int i, int quad) { return load_nibbles(p + 32 * i, quad); }
};

}  // namespace
}  // namespace ptq::kernels

#include "kernels/vector_code_product.h"

namespace ptq::kernels {

template <>
void run<Isa::kAvxVnni>(const CodeProduct& s) {
  code_product(s);
}

}  // namespace ptq::kernels
