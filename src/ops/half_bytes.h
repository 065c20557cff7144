// Codes of 4 bits and fewer, as kernels::Stored::kU4 lays them out.
#pragma once

#include <algorithm>
#include <cstdint>

#include "ptq/kernels/kernels.h"

namespace ptq {

// Bytes of a row of so many codes.
inline int64_t half_byte_row(int64_t columns) {
  return (columns + kernels::kU4Columns - 1) / kernels::kU4Columns * (kernels::kU4Columns / 2);
}

// The low 4 bits of code + offset, for `columns` codes: a row of half_byte_row(columns) bytes, filled up with
// zeros.
inline void place_half_bytes(const uint8_t* codes, int64_t columns, int offset, uint8_t* to) {
  constexpr int64_t kHalf = kernels::kU4Columns / 2;
  std::fill_n(to, half_byte_row(columns), uint8_t{0});
  for (int64_t k = 0; k < columns; ++k) {
    uint8_t& byte = to[k / kernels::kU4Columns * kHalf + k % kHalf];
    byte =
        static_cast<uint8_t>(byte | ((codes[k] + offset) & 15) << (k % kernels::kU4Columns < kHalf ? 0 : 4));
  }
}

}  // namespace ptq
