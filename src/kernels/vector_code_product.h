// Products of codes, written once for the instruction sets that multiply and add bytes. Besides the floats of
// vec_avx2.h or vec_avx512.h it wants these words:
//   Ints                    kWidth integers of 32 bits: load_ints, load_bytes, broadcast_int, sub, mul,
//                           to_floats
//   kVectors                of Ints: the sums of a row and a tile
//   columns_of(sums, part)  of those, the sums of kWidth columns
//   load_tile(p, i)         what is multiplied into vector i, from the bytes of a quad
//   load_codes(p)           a quad of a row, in every lane
//   add_products(sum, tile, codes)
//   kRowsAtOnce, tiles_at_once(rows)  what fits in registers
//   kRowsInGroups           rows of weights in groups, whose sums in floats are in registers too
//
// A block of rows and tiles has its sums in registers while it goes along the quads of a group. Blocks of
// rows are the inner loop: a tile is read from memory once, and from a cache after. One row, which reads a
// tile once, is as fast as the memory if several tiles are read at once: four streams are a quarter faster
// than one.
#pragma once

#include "kernels/tables.h"

namespace ptq::kernels {
namespace {

constexpr int64_t kQuadBytes = kCodeColumns * 4;  // of a tile
constexpr int kParts = static_cast<int>(kCodeColumns / kWidth);

inline int64_t groups_of(const CodeProduct& s) {
  return (s.quads + s.group_quads - 1) / s.group_quads;
}

// Of a block of kRows rows and kTiles tiles; vectors are in the order of the tiles.
template <int kRows, int kTiles>
using Sums = Ints[kRows][kTiles * kVectors];
template <int kRows, int kTiles>
using Floats = Vec[kRows][kTiles * kParts];

// The sums of one group, without zero points.
template <int kRows, int kTiles>
inline void sum_group(const int8_t* rows, int64_t row_stride, const uint8_t* columns, int64_t tile_bytes,
                      int64_t quads, Sums<kRows, kTiles>& sums) {
  Sums<kRows, kTiles> running;  // stay in registers, because nothing else has their address
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kTiles * kVectors; ++v) running[r][v] = broadcast_int(0);
  }
  for (int64_t quad = 0; quad < quads; ++quad, rows += 4, columns += kQuadBytes) {
    Codes codes[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) codes[r] = load_codes(rows + r * row_stride);
#pragma GCC unroll 8
    for (int v = 0; v < kTiles * kVectors; ++v) {
      const Ints tile = load_tile(columns + v / kVectors * tile_bytes, v % kVectors);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) running[r][v] = add_products(running[r][v], tile, codes[r]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kTiles * kVectors; ++v) sums[r][v] = running[r][v];
  }
}

// Takes zero points off the sums of one group, and adds them to `total` by the columns' scales.
template <int kRows, int kTiles>
inline void add_group(const CodeProduct& s, int64_t row, int64_t tile, int64_t group,
                      const Sums<kRows, kTiles>& sums, Floats<kRows, kTiles>& total) {
  const int64_t groups = groups_of(s);
#pragma GCC unroll 8
  for (int c = 0; c < kTiles * kParts; ++c) {
    const int t = c / kParts, part = c % kParts;
    const int64_t at = ((tile + t) * groups + group) * kCodeColumns + part * kWidth;
    const Vec scale = load(s.column_scale + at);
    const Ints zero = s.column_zero ? load_bytes(s.column_zero + at) : broadcast_int(128);
    const Ints column_sum = s.row_zero ? load_ints(s.column_sums + at) : broadcast_int(0);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      Ints sum = columns_of(&sums[r][t * kVectors], part);
      sum = sub(sum, mul(zero, broadcast_int(s.row_sums[(row + r) * groups + group])));
      if (s.row_zero) sum = sub(sum, mul(column_sum, broadcast_int(s.row_zero[row + r])));
      total[r][c] = add(total[r][c], mul(to_floats(sum), scale));
    }
  }
}

// Multiplies by the rows' scales.
template <int kRows, int kTiles>
inline void store_block(const CodeProduct& s, int64_t row, int64_t tile, const Floats<kRows, kTiles>& total) {
#pragma GCC unroll 8
  for (int c = 0; c < kTiles * kParts; ++c) {
    const int64_t column = tile * kCodeColumns + c * kWidth, lanes = s.columns - column;
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Vec y = mul(total[r][c], broadcast(s.row_scale[(row + r) * s.row_scale_stride]));
      float* to = s.y + (row + r) * s.y_stride + column;
      if (lanes >= kWidth) {
        store(to, y);
      } else if (lanes > 0) {
        store(to, y, SomeLanes(lanes));
      }
    }
  }
}

template <int kRows, int kTiles>
void multiply_block(const CodeProduct& s, int64_t row, int64_t tile) {
  const int64_t groups = groups_of(s), tile_bytes = s.quads * kQuadBytes;
  const int8_t* rows = s.row_codes + row * s.row_stride;
  const uint8_t* columns = s.column_codes + tile * tile_bytes;
  Floats<kRows, kTiles> total;
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < kTiles * kParts; ++c) total[r][c] = broadcast(-0.0f);  // -0 + x is x, +0 + -0 is not
  }
  for (int64_t group = 0; group < groups; ++group) {
    const int64_t first = group * s.group_quads, left = s.quads - first;
    Sums<kRows, kTiles> sums;
    sum_group<kRows, kTiles>(rows + first * 4, s.row_stride, columns + first * kQuadBytes, tile_bytes,
                             left < s.group_quads ? left : s.group_quads, sums);
    add_group<kRows, kTiles>(s, row, tile, group, sums, total);
  }
  store_block<kRows, kTiles>(s, row, tile, total);
}

// Tiles [tile, end): as many at once as there are registers for, then the rest.
template <int kRows, int kTiles>
inline void multiply_tiles(const CodeProduct& s, int64_t row, int64_t tile, int64_t end) {
  for (; tile + kTiles <= end; tile += kTiles) multiply_block<kRows, kTiles>(s, row, tile);
  if constexpr (kTiles > 1) multiply_tiles<kRows, kTiles / 2>(s, row, tile, end);
}

// `rows` rows, at most kRows.
template <int kRows>
inline void multiply_rows(const CodeProduct& s, int64_t row, int64_t rows, int64_t tile, int64_t end) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return multiply_rows<kRows - 1>(s, row, rows, tile, end);
  }
  multiply_tiles<kRows, tiles_at_once(kRows)>(s, row, tile, end);
}

inline void code_product(const CodeProduct& s) {
  constexpr int64_t kTiles = tiles_at_once(kRowsAtOnce);
  const int64_t tiles = (s.columns + kCodeColumns - 1) / kCodeColumns;
  const int64_t at_once = groups_of(s) > 1 ? kRowsInGroups : kRowsAtOnce;
  const int64_t blocks = (s.rows + at_once - 1) / at_once;
  if (blocks <= 1) return multiply_rows<kRowsAtOnce>(s, 0, s.rows, 0, s.rows == 0 ? 0 : tiles);
  for (int64_t tile = 0; tile < tiles; tile += kTiles) {
    const int64_t end = tile + kTiles < tiles ? tile + kTiles : tiles;
    for (int64_t block = 0; block < blocks; ++block) {  // of about the same size
      const int64_t row = s.rows * block / blocks, last = s.rows * (block + 1) / blocks;
      multiply_rows<kRowsAtOnce>(s, row, last - row, tile, end);
    }
  }
}

}  // namespace
}  // namespace ptq::kernels
