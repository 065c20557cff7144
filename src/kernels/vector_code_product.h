// Products of codes, written once for the instruction sets that multiply and add bytes. Besides the floats of
// vec_avx2.h or vec_avx512.h it wants these words:
//   Ints                    kWidth integers of 32 bits: load_ints, load_bytes, broadcast_int, add, sub, mul,
//                           to_floats
// and of each form that columns have, Bytes for 8-bit codes and Nibbles for 4-bit ones, a struct with
//   kVectors                of Ints: the sums of a row and a tile
//   kStepQuads              quads of which kStepBytes of a tile hold the codes
//   kMostSteps              whose products a narrow sum holds, widen() then makes it Ints; 0: sums are Ints
//   load_tile(p, i, quad)   what is multiplied into vector i, from the bytes of a step
//   load_codes(p)           a quad of a row, in every lane
//   add_products(sum, tile, codes)
//   columns_of(sums, part)  of the vectors of a tile, the sums of kWidth columns
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

constexpr int64_t kStepBytes = kCodeColumns * 4;  // of a tile
constexpr int kParts = static_cast<int>(kCodeColumns / kWidth);

inline int64_t groups_of(const CodeProduct& s) {
  return (s.quads + s.group_quads - 1) / s.group_quads;
}

// Of a block of kRows rows and kTiles tiles; vectors are in the order of the tiles.
template <typename Form, int kRows, int kTiles>
using Sums = Ints[kRows][kTiles * Form::kVectors];
template <int kRows, int kTiles>
using Floats = Vec[kRows][kTiles * kParts];

// The sums of some steps, without zero points.
template <typename Form, int kRows, int kTiles>
inline void sum_steps(const int8_t* rows, int64_t row_stride, const uint8_t* columns, int64_t tile_bytes,
                      int64_t steps, Sums<Form, kRows, kTiles>& sums) {
  Sums<Form, kRows, kTiles> running;  // stay in registers, because nothing else has their address
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
    for (int v = 0; v < kTiles * Form::kVectors; ++v) running[r][v] = broadcast_int(0);
  }
  for (int64_t step = 0; step < steps; ++step, rows += Form::kStepQuads * 4, columns += kStepBytes) {
#pragma GCC unroll 2
    for (int quad = 0; quad < Form::kStepQuads; ++quad) {
      Ints codes[kRows];
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) codes[r] = Form::load_codes(rows + r * row_stride + quad * 4);
#pragma GCC unroll 16
      for (int v = 0; v < kTiles * Form::kVectors; ++v) {
        const Ints tile =
            Form::load_tile(columns + v / Form::kVectors * tile_bytes, v % Form::kVectors, quad);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) running[r][v] = Form::add_products(running[r][v], tile, codes[r]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
    for (int v = 0; v < kTiles * Form::kVectors; ++v) sums[r][v] = running[r][v];
  }
}

// The sums of one group, without zero points.
template <typename Form, int kRows, int kTiles>
inline void sum_group(const int8_t* rows, int64_t row_stride, const uint8_t* columns, int64_t tile_bytes,
                      int64_t steps, Sums<Form, kRows, kTiles>& sums) {
  if constexpr (Form::kMostSteps == 0) {
    sum_steps<Form, kRows, kTiles>(rows, row_stride, columns, tile_bytes, steps, sums);
  } else {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < kTiles * Form::kVectors; ++v) sums[r][v] = broadcast_int(0);
    }
    for (int64_t step = 0; step < steps; step += Form::kMostSteps) {
      const int64_t left = steps - step;
      Sums<Form, kRows, kTiles> narrow;
      sum_steps<Form, kRows, kTiles>(rows + step * Form::kStepQuads * 4, row_stride,
                                     columns + step * kStepBytes, tile_bytes,
                                     left < Form::kMostSteps ? left : Form::kMostSteps, narrow);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
        for (int v = 0; v < kTiles * Form::kVectors; ++v)
          sums[r][v] = add(sums[r][v], Form::widen(narrow[r][v]));
      }
    }
  }
}

// Takes zero points off the sums of one group, and adds them to `total` by the columns' scales.
template <typename Form, int kRows, int kTiles>
inline void add_group(const CodeProduct& s, int64_t row, int64_t tile, int64_t group,
                      const Sums<Form, kRows, kTiles>& sums, Floats<kRows, kTiles>& total) {
  const int64_t groups = groups_of(s);
#pragma GCC unroll 8
  for (int c = 0; c < kTiles * kParts; ++c) {
    const int t = c / kParts, part = c % kParts;
    const int64_t at = ((tile + t) * groups + group) * kCodeColumns + part * kWidth;
    const Vec scale = load(s.column_scale + at);
    const Ints zero =
        s.column_zero ? load_bytes(s.column_zero + at) : broadcast_int(1 << (s.column_bits - 1));
    const Ints column_sum = s.row_zero ? load_ints(s.column_sums + at) : broadcast_int(0);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      Ints sum = Form::columns_of(&sums[r][t * Form::kVectors], part);
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

template <typename Form, int kRows, int kTiles>
void multiply_block(const CodeProduct& s, int64_t row, int64_t tile) {
  const int64_t groups = groups_of(s), tile_bytes = s.quads / Form::kStepQuads * kStepBytes;
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
    const int64_t quads = left < s.group_quads ? left : s.group_quads;
    Sums<Form, kRows, kTiles> sums;
    sum_group<Form, kRows, kTiles>(rows + first * 4, s.row_stride,
                                   columns + first / Form::kStepQuads * kStepBytes, tile_bytes,
                                   quads / Form::kStepQuads, sums);
    add_group<Form, kRows, kTiles>(s, row, tile, group, sums, total);
  }
  store_block<kRows, kTiles>(s, row, tile, total);
}

// Tiles [tile, end): as many at once as there are registers for, then the rest.
template <typename Form, int kRows, int kTiles>
inline void multiply_tiles(const CodeProduct& s, int64_t row, int64_t tile, int64_t end) {
  for (; tile + kTiles <= end; tile += kTiles) multiply_block<Form, kRows, kTiles>(s, row, tile);
  if constexpr (kTiles > 1) multiply_tiles<Form, kRows, kTiles / 2>(s, row, tile, end);
}

// `rows` rows, at most kRows.
template <typename Form, int kRows>
inline void multiply_rows(const CodeProduct& s, int64_t row, int64_t rows, int64_t tile, int64_t end) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return multiply_rows<Form, kRows - 1>(s, row, rows, tile, end);
  }
  multiply_tiles<Form, kRows, Form::tiles_at_once(kRows)>(s, row, tile, end);
}

template <typename Form>
void multiply_all(const CodeProduct& s) {
  constexpr int64_t kTiles = Form::tiles_at_once(Form::kRowsAtOnce);
  const int64_t tiles = (s.columns + kCodeColumns - 1) / kCodeColumns;
  const int64_t at_once = groups_of(s) > 1 ? Form::kRowsInGroups : Form::kRowsAtOnce;
  const int64_t blocks = (s.rows + at_once - 1) / at_once;
  if (blocks <= 1) return multiply_rows<Form, Form::kRowsAtOnce>(s, 0, s.rows, 0, s.rows == 0 ? 0 : tiles);
  for (int64_t tile = 0; tile < tiles; tile += kTiles) {
    const int64_t end = tile + kTiles < tiles ? tile + kTiles : tiles;
    for (int64_t block = 0; block < blocks; ++block) {  // of about the same size
      const int64_t row = s.rows * block / blocks, last = s.rows * (block + 1) / blocks;
      multiply_rows<Form, Form::kRowsAtOnce>(s, row, last - row, tile, end);
    }
  }
}

inline void code_product(const CodeProduct& s) {
  s.column_bits == 4 ? multiply_all<Nibbles>(s) : multiply_all<Bytes>(s);
}

}  // namespace
}  // namespace ptq::kernels
