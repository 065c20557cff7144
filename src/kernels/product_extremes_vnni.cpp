// product_extremes compiled for AVX-512 with VNNI. Includes no header whose inline functions could end up in
// the rest of the program: they would be compiled for this instruction set.
//
// A vector holds 16 rows, so the largest entry of a row is a lane's running maximum and no vector is ever
// folded. 4 vectors of rows times 6 columns are 24 sums in registers; a quad loads 4 vectors and broadcasts 6
// columns for 24 multiply-adds of 64 products each. The rows and the columns stay in L1.
#include <immintrin.h>

#include "kernels/tables.h"

namespace ptq::kernels {
namespace {

constexpr int kVectors = kProductRows / 16;
constexpr int kColumns = kProductColumns;

// One tile of columns, into the running extremes.
inline void multiply_tile(const uint8_t* rows, const int8_t* columns, const int32_t* start, int64_t quads,
                          __m512i* highest, __m512i* lowest) {
  __m512i sums[kVectors][kColumns];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
#pragma GCC unroll 6
    for (int c = 0; c < kColumns; ++c) sums[v][c] = _mm512_set1_epi32(start[c]);
  }
  for (int64_t quad = 0; quad < quads; ++quad, rows += kProductRows * 4, columns += kColumns * 4) {
    __m512i row[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) row[v] = _mm512_loadu_si512(rows + v * 64);
#pragma GCC unroll 6
    for (int c = 0; c < kColumns; ++c) {
      int32_t four = 0;
      __builtin_memcpy(&four, columns + c * 4, 4);
      const __m512i column = _mm512_set1_epi32(four);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sums[v][c] = _mm512_dpbusd_epi32(sums[v][c], row[v], column);
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
#pragma GCC unroll 6
    for (int c = 0; c < kColumns; ++c) {
      highest[v] = _mm512_max_epi32(highest[v], sums[v][c]);
      lowest[v] = _mm512_min_epi32(lowest[v], sums[v][c]);
    }
  }
}

}  // namespace

template <>
void run<Isa::kAvx512Vnni>(const ProductExtremes& s) {
  __m512i highest[kVectors], lowest[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    highest[v] = _mm512_set1_epi32(INT32_MIN);
    lowest[v] = _mm512_set1_epi32(INT32_MAX);
  }
  for (int64_t tile = 0; tile < s.tiles; ++tile) {
    multiply_tile(s.rows, s.columns + tile * s.quads * kColumns * 4, s.start + tile * kColumns, s.quads,
                  highest, lowest);
  }
  for (int v = 0; v < kVectors; ++v) {
    _mm512_storeu_si512(s.highest + v * 16, highest[v]);
    _mm512_storeu_si512(s.lowest + v * 16, lowest[v]);
  }
}

}  // namespace ptq::kernels
