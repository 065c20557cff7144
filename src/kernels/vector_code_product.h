// Products of codes, written once for the instruction sets that multiply and add bytes. Besides the floats of
// vec_avx2.h or vec_avx512.h it wants these words:
//   Ints    kWidth integers of 32 bits: load_ints, load_bytes, broadcast_int, sub, mul, to_floats
//   kVectors   of Ints, the sums of a row and a tile; columns_of(sums, part) are those of kWidth columns
//   load_tile(p, i)   what is multiplied into vector i, from the bytes of a quad
//   load_codes(p)     a quad of a row, in every lane
//   add_products(sum, tile, codes)
//   kRowsAtOnce, tiles_at_once(rows)   what fits in registers
//
// A block of rows and tiles has its sums in registers while it goes along the quads of a group. Blocks of rows
// are the inner loop: a tile is read from memory once, and from a cache after. One row, which reads a tile once,
// is as fast as the memory.
#pragma once

#include "kernels/tables.h"

namespace ptq::kernels {
namespace {

constexpr int64_t kQuadBytes = kCodeColumns * 4;  // of a tile
constexpr int kParts = static_cast<int>(kCodeColumns / kWidth);

inline int64_t groups_of(const CodeProduct& s) {
  return (s.quads + s.group_quads - 1) / s.group_quads;
}

// Rows and tiles that are computed together, and where in the product they are.
struct Block {
  int64_t row, rows, tile, tiles;
};

// The sums of one group, [kRows, kTiles, kVectors], without zero points. They are in registers because nothing
// else has their address: they are copied to `sums` at the end.
template <int kRows, int kTiles>
inline void sum_group(const int8_t* rows, int64_t row_stride, const uint8_t* columns, int64_t tile_bytes,
                      int64_t quads, Ints* sums) {
  Ints running[kRows][kTiles][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int t = 0; t < kTiles; ++t) {
#pragma GCC unroll 4
      for (int i = 0; i < kVectors; ++i) running[r][t][i] = broadcast_int(0);
    }
  }
  for (int64_t quad = 0; quad < quads; ++quad, rows += 4, columns += kQuadBytes) {
    Codes codes[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) codes[r] = load_codes(rows + r * row_stride);
#pragma GCC unroll 8
    for (int t = 0; t < kTiles; ++t) {
#pragma GCC unroll 4
      for (int i = 0; i < kVectors; ++i) {
        const Ints tile = load_tile(columns + t * tile_bytes, i);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) running[r][t][i] = add_products(running[r][t][i], tile, codes[r]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int t = 0; t < kTiles; ++t) {
#pragma GCC unroll 4
      for (int i = 0; i < kVectors; ++i) sums[(r * kTiles + t) * kVectors + i] = running[r][t][i];
    }
  }
}

// kWidth columns, from `part` of a tile on, of all rows of a block.
template <typename Lanes>
inline void add_part(const CodeProduct& s, const Block& block, int64_t group, int64_t t, int part,
                     const Ints* sums, Lanes lanes) {
  const int64_t groups = groups_of(s), tile = block.tile + t;
  const int64_t at = (tile * groups + group) * kCodeColumns + part * kWidth;
  const Vec scale = load(s.column_scale + at);
  const Ints zero = s.column_zero ? load_bytes(s.column_zero + at) : broadcast_int(128);
  float* y = s.y + block.row * s.y_stride + tile * kCodeColumns + part * kWidth;
  for (int64_t r = 0; r < block.rows; ++r, y += s.y_stride) {
    const int64_t row = block.row + r;
    Ints sum = columns_of(sums + (r * block.tiles + t) * kVectors, part);
    sum = sub(sum, mul(zero, broadcast_int(s.row_sums[row * groups + group])));
    if (s.row_zero) sum = sub(sum, mul(load_ints(s.column_sums + at), broadcast_int(s.row_zero[row])));
    Vec value = mul(to_floats(sum), scale);
    if (group > 0) value = add(load(y, lanes), value);
    if (group + 1 == groups) value = mul(value, broadcast(s.row_scale[row * s.row_scale_stride]));
    store(y, value, lanes);
  }
}

// Takes zero points off the sums of one group, and adds them to y by their scales.
inline void add_group(const CodeProduct& s, const Block& block, int64_t group, const Ints* sums) {
  for (int64_t t = 0; t < block.tiles; ++t) {
#pragma GCC unroll 2
    for (int part = 0; part < kParts; ++part) {
      const int64_t lanes = s.columns - (block.tile + t) * kCodeColumns - part * kWidth;
      if (lanes >= kWidth) {
        add_part(s, block, group, t, part, sums, AllLanes{});
      } else if (lanes > 0) {
        add_part(s, block, group, t, part, sums, SomeLanes(lanes));
      }
    }
  }
}

template <int kRows, int kTiles>
void multiply_block(const CodeProduct& s, int64_t row, int64_t tile) {
  const int64_t groups = groups_of(s), tile_bytes = s.quads * kQuadBytes;
  Ints sums[kRows * kTiles * kVectors];
  for (int64_t group = 0; group < groups; ++group) {
    const int64_t first = group * s.group_quads, left = s.quads - first;
    sum_group<kRows, kTiles>(s.row_codes + row * s.row_stride + first * 4, s.row_stride,
                             s.column_codes + tile * tile_bytes + first * kQuadBytes, tile_bytes,
                             left < s.group_quads ? left : s.group_quads, sums);
    add_group(s, {row, kRows, tile, kTiles}, group, sums);
  }
}

// `rows` rows, at most kRows, and tiles [tile, end).
template <int kRows>
inline void multiply_rows(const CodeProduct& s, int64_t row, int64_t rows, int64_t tile, int64_t end) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return multiply_rows<kRows - 1>(s, row, rows, tile, end);
  }
  constexpr int kTiles = tiles_at_once(kRows);
  for (; tile + kTiles <= end; tile += kTiles) multiply_block<kRows, kTiles>(s, row, tile);
  for (; tile < end; ++tile) multiply_block<kRows, 1>(s, row, tile);
}

inline void code_product(const CodeProduct& s) {
  constexpr int64_t kTiles = tiles_at_once(kRowsAtOnce);
  const int64_t tiles = (s.columns + kCodeColumns - 1) / kCodeColumns;
  const int64_t blocks = (s.rows + kRowsAtOnce - 1) / kRowsAtOnce;
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
