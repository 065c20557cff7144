// The inner loops of the scan in 8 bits, compiled for AVX-512 with VNNI. Raw pointers, no torch; includes
// nothing whose inline functions could end up, compiled for this instruction set, in the rest of the program.
#pragma once

#include <cstdint>

namespace ptq::vnni {

constexpr int64_t kGroup = 64;  // rows that are worked on together, one lane each
constexpr int64_t kTile = 6;    // columns of R that are worked on together

// Rows of x as codes x / scale in [-127, 127], scale = max |row| / 127 (0 for a row without a value above
// 1e-30), laid out for scan(): [group][channel / 4][row of the group][channel % 4], each code plus 128. The
// last group is filled up with rows of 0.
struct PackRows {
  const float* x;        // [rows, block], contiguous
  const int64_t* order;  // [rows]: which row of x comes at a place
  uint8_t* codes;        // [ceil(rows / kGroup), ceil(block / 4), kGroup, 4]
  float* scale;          // [ceil(rows / kGroup) * kGroup]
  float* error;          // [rows]: |x - scale code|, as float32 computes it
  int64_t rows, block;
};
void pack_rows(const PackRows& job);

// Bounds of the largest entry of each row of codes R, and of the largest negated entry. They are the entries
// of the product times scale * column_scale, plus slack = norm * factor_of_norm + error * factor_of_error.
// The entries less the slack raise reached_high and reached_low.
struct Scan {
  const uint8_t* codes;  // as above, from the first group
  const float* scale;    // [groups * kGroup], as are norm, error, high and low
  const float* norm;
  const float* error;
  const int8_t*
      columns;  // R in codes: [tiles, quads, kTile, 4], the last column repeated to fill the last tile
  const int32_t* offset;  // [tiles, kTile]: -128 times the sum of a column, which the 128 of the rows adds
  float* high;
  float* low;
  float* reached_high;  // one value each
  float* reached_low;
  int64_t groups;
  int64_t quads;  // ceil(block / 4)
  int64_t tiles;
  float column_scale;
  float factor_of_norm, factor_of_error;
};
void scan(const Scan& job);

}  // namespace ptq::vnni
