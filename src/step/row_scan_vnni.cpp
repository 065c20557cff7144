// A vector holds 16 rows, so the largest entry of a row is a lane's running maximum and no vector is ever
// folded. 4 vectors of rows times 6 columns are 24 sums in registers; a step of 4 channels loads 4 vectors
// and broadcasts 6 groups of 4 codes for 24 multiply-adds of 64 products each. A group of 64 rows and the
// columns stay in L1.
#include "step/row_scan_vnni.h"

#include <immintrin.h>

namespace ptq::vnni {
namespace {

constexpr int kVectors = kGroup / 16;

float largest_magnitude(const float* x, int64_t block) {
  __m512 largest = _mm512_setzero_ps();
  for (int64_t k = 0; k < block; k += 16) {
    const auto mask = static_cast<__mmask16>(block - k >= 16 ? 0xffff : (1 << (block - k)) - 1);
    largest = _mm512_max_ps(largest, _mm512_abs_ps(_mm512_maskz_loadu_ps(mask, x + k)));
  }
  return _mm512_reduce_max_ps(largest);
}

// Codes of one row, 4 bytes every kGroup * 4. Returns the sum of squared errors.
float pack_row(const float* x, int64_t block, float scale, uint8_t* codes) {
  const __m512 step = _mm512_set1_ps(scale);
  const __m512 inverse = _mm512_set1_ps(scale > 0 ? 1 / scale : 0);
  __m512 errors = _mm512_setzero_ps();
  for (int64_t k = 0; k < block; k += 16) {
    const auto mask = static_cast<__mmask16>(block - k >= 16 ? 0xffff : (1 << (block - k)) - 1);
    const __m512 value = _mm512_maskz_loadu_ps(mask, x + k);
    const __m512i code = _mm512_cvtps_epi32(_mm512_mul_ps(value, inverse));
    const __m512 error = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(code), step, value);
    errors = _mm512_fmadd_ps(error, error, errors);
    alignas(16) int32_t quads[4];
    const __m128i bytes = _mm512_cvtsepi32_epi8(code);
    _mm_store_si128(reinterpret_cast<__m128i*>(quads), _mm_xor_si128(bytes, _mm_set1_epi8(-128)));
    for (int64_t q = 0; q < 4 && k + 4 * q < block; ++q)
      __builtin_memcpy(codes + (k / 4 + q) * kGroup * 4, &quads[q], 4);
  }
  return _mm512_reduce_add_ps(errors);
}

// The products of one group with one tile of columns, into the running extremes.
void scan_tile(const uint8_t* codes, const int8_t* columns, const int32_t* offset, int64_t quads,
               __m512i* highest, __m512i* lowest) {
  __m512i sums[kVectors][kTile];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
#pragma GCC unroll 6
    for (int c = 0; c < kTile; ++c) sums[v][c] = _mm512_set1_epi32(offset[c]);
  }
  for (int64_t quad = 0; quad < quads; ++quad, codes += kGroup * 4, columns += kTile * 4) {
    __m512i rows[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) rows[v] = _mm512_loadu_si512(codes + v * 64);
#pragma GCC unroll 6
    for (int c = 0; c < kTile; ++c) {
      int32_t four = 0;
      __builtin_memcpy(&four, columns + c * 4, 4);
      const __m512i column = _mm512_set1_epi32(four);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sums[v][c] = _mm512_dpbusd_epi32(sums[v][c], rows[v], column);
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
#pragma GCC unroll 6
    for (int c = 0; c < kTile; ++c) {
      highest[v] = _mm512_max_epi32(highest[v], sums[v][c]);
      lowest[v] = _mm512_min_epi32(lowest[v], sums[v][c]);
    }
  }
}

}  // namespace

void pack_rows(const PackRows& job) {
  const int64_t quads = (job.block + 3) / 4;
  const int64_t padded = (job.rows + kGroup - 1) / kGroup * kGroup;
  for (int64_t place = 0; place < padded; ++place) {
    uint8_t* codes = job.codes + (place / kGroup * quads * kGroup + place % kGroup) * 4;
    if (place >= job.rows) {
      job.scale[place] = 0;
      for (int64_t quad = 0; quad < quads; ++quad) __builtin_memset(codes + quad * kGroup * 4, 128, 4);
      continue;
    }
    const float* x = job.x + job.order[place] * job.block;
    const float largest = largest_magnitude(x, job.block);
    job.scale[place] = largest > 1e-30f ? largest / 127 : 0;
    job.error[place] = __builtin_sqrtf(pack_row(x, job.block, job.scale[place], codes));
  }
}

void scan(const Scan& job) {
  __m512 reached_high = _mm512_set1_ps(*job.reached_high);
  __m512 reached_low = _mm512_set1_ps(*job.reached_low);
  for (int64_t group = 0; group < job.groups; ++group) {
    __m512i highest[kVectors], lowest[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      highest[v] = _mm512_set1_epi32(INT32_MIN);
      lowest[v] = _mm512_set1_epi32(INT32_MAX);
    }
    for (int64_t tile = 0; tile < job.tiles; ++tile) {
      scan_tile(job.codes + group * job.quads * kGroup * 4, job.columns + tile * job.quads * kTile * 4,
                job.offset + tile * kTile, job.quads, highest, lowest);
    }
    for (int v = 0; v < kVectors; ++v) {
      const int64_t row = group * kGroup + v * 16;
      const __m512 scale = _mm512_mul_ps(_mm512_loadu_ps(job.scale + row), _mm512_set1_ps(job.column_scale));
      const __m512 high = _mm512_mul_ps(_mm512_cvtepi32_ps(highest[v]), scale);
      const __m512 low = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(lowest[v]), scale, _mm512_setzero_ps());
      const __m512 of_norm =
          _mm512_mul_ps(_mm512_loadu_ps(job.norm + row), _mm512_set1_ps(job.factor_of_norm));
      const __m512 slack =
          _mm512_fmadd_ps(_mm512_loadu_ps(job.error + row), _mm512_set1_ps(job.factor_of_error), of_norm);
      _mm512_storeu_ps(job.high + row, _mm512_add_ps(high, slack));
      _mm512_storeu_ps(job.low + row, _mm512_add_ps(low, slack));
      reached_high = _mm512_max_ps(reached_high, _mm512_sub_ps(high, slack));
      reached_low = _mm512_max_ps(reached_low, _mm512_sub_ps(low, slack));
    }
  }
  *job.reached_high = _mm512_reduce_max_ps(reached_high);
  *job.reached_low = _mm512_reduce_max_ps(reached_low);
}

}  // namespace ptq::vnni
