// CPU kernels on raw pointers: for each operation a list of candidates, one an instruction set.
//
// Layout, where nothing else is said: float32; rows of contiguous values, with a stride in floats from one
// row to the next; no alignment is asked for. Outputs must not overlap inputs unless said. A kernel runs on
// the calling thread, allocates nothing and does not throw. A value depends on its own inputs only, never on
// how rows or channels are split among calls, so callers may split as they like and get the same bits.
//
// Across instruction sets all give the same bits but selective_scan, ssd_scan, causal_conv1d_silu, rms_norm,
// softmax, stored_product and weighted_rows (hadamard for a left factor of +1 and -1). Those differ in
// rounding: exp is right to 2 units in the last place and results agree with the plain loops to 2e-6 of the
// largest one. The vector forms of exp give 0 below 2^-126 where AVX-512 is missing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace ptq::kernels {

constexpr int64_t kMaxState = 256;        // of selective_scan
constexpr int64_t kMaxConvWidth = 8;      // of causal_conv1d_silu
constexpr int64_t kMaxHadamardLeft = 64;  // rows of the left factor
constexpr int64_t kProductRows = 64;      // of one call of product_extremes
constexpr int64_t kProductColumns = 6;    // of a tile of product_extremes
constexpr int64_t kMaxProductQuads = 16384;
constexpr int64_t kCodeColumns = 16;  // of a tile of code_product
constexpr int64_t kU4Columns = 32;    // of a weight in half bytes, that lie together

// One row of a batch, for `channels` channels. The recurrence of ops.h:
//   delta = softplus(dt);  h = exp(delta A) h + delta B_t u_t;  y_t = (C_t . h + D u_t) silu(z_t)
struct SelectiveScan {
  const float* u;   // [length, channels]
  const float* dt;  // [length, channels]
  const float* z;   // [length, channels]
  const float* B;   // [length, state]
  const float* C;   // [length, state]
  const float* A;   // [channels, state], contiguous
  const float* D;   // [channels]
  float* h;  // [channels, state], contiguous; read and overwritten with the last state; null: zero, not kept
  float* y;  // [length, channels]
  int64_t u_stride, dt_stride, z_stride, B_stride, C_stride, y_stride;
  int64_t length, channels;
  int64_t state;  // 1 to kMaxState
};

// One head of one row of a batch. The recurrence of ops.h:
//   delta = clamp(softplus(dt + dt_bias));  h = exp(delta A) h + delta B_t u_t;  y_t = C_t . h + D u_t
struct SsdScan {
  const float* u;   // [length, channels]
  const float* dt;  // [length], dt_stride from one to the next
  const float* B;   // [length, state]
  const float* C;   // [length, state]
  const float* D;   // [channels]
  float* h;         // [state, channels], contiguous; read and overwritten with the last state
  float* y;         // [length, channels]
  int64_t u_stride, dt_stride, B_stride, C_stride, y_stride;
  int64_t length, channels, state;
  float A, dt_bias;
  float delta_low, delta_high;  // of the clamp; delta_high may be infinity
};

// One row of a batch, for `channels` channels: y_t = silu(bias + sum_k weight[k] x_{t - (width - 1) + k}).
struct CausalConv {
  const float* x;       // [length, channels]
  const float* weight;  // [channels, width], contiguous
  const float* bias;    // [channels] or null (zero)
  const float* window;  // [width - 1, channels]: the inputs before x, oldest first; null: zero
  float* y;             // [length, channels]
  int64_t x_stride, window_stride, y_stride;
  int64_t length, channels;
  int64_t width;  // 1 to kMaxConvWidth
};

// y = H x / sqrt(block) on every block of every row; H = left (x) Sylvester of size block / m. y may be x.
struct Hadamard {
  const float* x;     // [rows, columns]
  const float* left;  // [m, m], contiguous, +1 and -1
  float* y;           // [rows, columns]
  int64_t x_stride, y_stride;
  int64_t rows;
  int64_t columns;  // a multiple of block
  int64_t block;    // m * 2^k
  int64_t m;        // 1 to kMaxHadamardLeft
};

// y = clamp(round_half_even(x / scale), low, high). The code of NaN is `low`, and *has_nan says that there
// was one; it is set in either case.
struct QuantizeCodes {
  const float* x;      // [rows, columns]
  const float* scale;  // [rows], or one value if scale_stride is 0
  int8_t* y;           // [rows, columns]
  bool* has_nan;
  int64_t x_stride, y_stride;
  int64_t scale_stride;  // 0 or 1
  int64_t rows, columns;
  float low, high;  // -128 to 127
};

// What the codes of static scales stand for:
//   y = clamp(round_half_even(x / scale), low, high) scale, NaN where x is NaN, and no negative zero
struct RoundToCodes {
  const float* x;      // [rows, columns]
  const float* scale;  // [columns], or one value if scale_stride is 0; above 0
  float* y;            // [rows, columns]
  int64_t x_stride, y_stride;
  int64_t scale_stride;  // 0 or 1
  int64_t rows, columns;
  float low, high;
};

// Of a dynamic scale: the smallest float32 number with all its digits.
inline constexpr float kSmallestStep = 0x1p-126F;

// Rounds each row with a zero point; `last` is the largest of the codes 0 to last:
//   step = max((clip max(x, 0) - clip min(x, 0)) / last, kSmallestStep)
//   zero = clamp(round_half_even(-clip min(x, 0) / step), 0, last)
//   y    = clamp(round_half_even(x / step) + zero, 0, last)
// The step of a row with a NaN is NaN, and its codes and zero point are 0.
struct QuantizeAsymmetric {
  const float* x;  // [rows, columns]
  uint8_t* y;      // [rows, columns]
  uint8_t* zero;   // [rows]
  float* step;     // [rows]
  int64_t x_stride, y_stride;
  int64_t rows, columns;
  float last, clip;  // last: at most 255
};

// y = max |x| of each row; NaN if the row has one.
struct AbsMaxRows {
  const float* x;  // [rows, columns]
  float* y;        // [rows]
  int64_t x_stride;
  int64_t rows, columns;
};

// y = x / sqrt(mean(x^2) + eps) * gain along each row. y may be x.
struct RmsNorm {
  const float* x;     // [rows, columns]
  const float* gain;  // [columns]
  float* y;           // [rows, columns]
  int64_t x_stride, y_stride;
  int64_t rows, columns;
  float eps;
};

// y[r][c] = x[r][index[c]].
struct GatherColumns {
  const float* x;        // [rows, any number of columns]
  const int32_t* index;  // [columns], each a column of x
  float* y;              // [rows, columns]
  int64_t x_stride, y_stride;
  int64_t rows, columns;
};

// Rounds a block of weights column by column, each with the errors of those before it (GPTQ). A column is a
// row of every matrix here, and weights of one column do not depend on each other:
//   v_j    <- v_j + sum_{i < j} R[i][j] error_i                   in ascending order of i
//   code_j  = clamp(round_half_even(v_j / divisor_j) + zero_j, low, high); NaN becomes low
//   error_j = w_j - (code_j - zero_j) scale_j
// scale_j is row grid[j] of `scale`, and so for divisor and zero. A divisor of infinity makes the code
// zero_j.
struct RoundColumns {
  const float* w;        // [columns, rows]
  float* v;              // [columns, rows]
  const float* R;        // [columns, columns], R_stride from one row to the next
  const float* scale;    // [grids, rows]
  const float* divisor;  // [grids, rows]
  const float* zero;     // [grids, rows]
  const int64_t* grid;   // [columns]
  float* codes;          // [columns, rows]
  float* error;          // [columns, rows]
  int64_t R_stride;
  int64_t columns, rows;
  float low, high;
};

// The largest and the smallest entry of each row of a product in 8-bit codes:
//   y[r][c] = start[c] + sum_k rows[r][k] columns[k][c]
//   highest[r] = max_c y[r][c];  lowest[r] = min_c y[r][c]
// Four neighbours k lie together, because that is what an instruction multiplies and adds at once: a quad.
// Signed rows are passed plus 128, with start = -128 times the sum of the column. Whoever has fewer columns
// than the tiles hold repeats one. Sums have 32 bits: codes in [-127, 127], however many, do not overflow.
struct ProductExtremes {
  const uint8_t* rows;    // [quads, kProductRows, 4]
  const int8_t* columns;  // [tiles, quads, kProductColumns, 4]
  const int32_t* start;   // [tiles, kProductColumns]
  int32_t* highest;       // [kProductRows]
  int32_t* lowest;        // [kProductRows]
  int64_t quads;          // up to kMaxProductQuads
  int64_t tiles;
};

// A product of rows of 8-bit codes with columns of 8- or 4-bit ones, their scales and zero points. Of row r,
// column c and a group g of inputs k:
//   sum[g]  = sum_k (rows[r][k] - row_zero[r]) (columns[c][k] - zero[g][c])
//   part[g] = float(sum[g]) scale[g][c]
//   y[r][c] = (part[0] + part[1] + ...) row_scale[r]
// in float32, each multiplication and addition rounded by itself, the groups in order.
//
// Columns are unsigned and rows signed, as an instruction multiplies them four neighbours k at once: a quad.
// Signed codes of a column are passed plus 2^(column_bits - 1), with their zero point. The row's own zero
// point needs the sums that are given with the columns; the column's those that are given with the rows. A
// quad that reaches past the inputs has zeros in the row there, and anything in the column.
//
// At 4 bits `quads` and `group_quads` are even, and a byte of a column holds two codes, 0 to 15: that of an
// even quad in the low half, and in the high half that of the same place in the quad after it.
//
// Sums have 32 bits: sum[g] must fit, what it is made of may wrap on the way. A call has any number of
// columns, from the first one of a tile on; the last tile is as long as the others.
struct CodeProduct {
  const int8_t* row_codes;      // [rows, quads * 4]
  const int32_t* row_sums;      // [rows, groups]: of the codes
  const int32_t* row_zero;      // [rows], -128 to 127; null: all 0
  const float* row_scale;       // [rows], or one value if row_scale_stride is 0
  const uint8_t* column_codes;  // [tiles, quads, kCodeColumns, 4]; at 4 bits [tiles, quads / 2, ...]
  const int32_t* column_sums;   // [tiles, groups, kCodeColumns]: of code - zero; read if there is row_zero
  const uint8_t* column_zero;   // [tiles, groups, kCodeColumns]; null: all 2^(column_bits - 1)
  const float* column_scale;    // [tiles, groups, kCodeColumns]
  float* y;                     // [rows, columns]
  int64_t row_stride, row_scale_stride, y_stride;
  int64_t rows, columns, quads;
  int64_t group_quads;  // of a group, of which there are as many as `quads` takes; the last may have fewer
  int column_bits;      // 8 or 4
};

// How the values of a weight are held.
enum class Stored {
  kF16,
  kBf16,
  kI8,  // codes
  kU4,  // places in a table of 16: of 32 columns, byte i holds number i in its low half and i + 16 above
};

// A weight [rows, columns] as it is stored, row after row, each from a byte of its own on. The value of row r
// and column k, which belongs to group g = k / group:
//   kF16, kBf16   the number
//   kI8           (code - zero[r][g]) scale[r][g]
//   kU4           (table[place] - zero[r][g]) scale[r][g]; a row is filled up to a multiple of kU4Columns
struct StoredRows {
  Stored stored;
  const void* data;              // [rows, row_bytes]
  const float* table = nullptr;  // [16]; kU4
  const float* scale = nullptr;  // [rows, groups], or [1] if one_scale; null: all 1
  const int8_t* zero = nullptr;  // in the shape of scale; null: all 0
  int64_t row_bytes;
  int64_t columns;
  int64_t group;           // kU4: a multiple of kU4Columns, or not less than `columns`
  bool one_scale = false;  // one scale and zero point for all rows and columns
};

// y[i][k] = the value of row first + i and column k.
struct WidenRows {
  StoredRows w;
  float* y;  // [rows, w.columns]
  int64_t y_stride;
  int64_t first, rows;
};

// y[r][c] = sum_k x[r][k] value(w, first + c, k): for few rows x, because w is widened for every few of them.
// A value does not depend on the other rows x.
struct StoredProduct {
  const float* x;  // [rows, w.columns]
  StoredRows w;
  float* y;  // [rows, columns]
  int64_t x_stride, y_stride;
  int64_t rows;
  int64_t first, columns;  // rows of w
};

// y[r][k] = sum_c x[r][c] value(w, first + c, k).
struct WeightedRows {
  const float* x;  // [rows, count]
  StoredRows w;    // with one group
  float* y;        // [rows, w.columns]
  int64_t x_stride, y_stride;
  int64_t rows;
  int64_t first, count;  // rows of w
};

// x[r][c] <- exp(scale x[r][c] - m) / sum_c exp(scale x[r][c] - m), with m = max_c scale x[r][c].
struct Softmax {
  float* x;  // [rows, columns]
  int64_t x_stride;
  int64_t rows, columns;  // columns: at least 1
  float scale;            // positive
};

// Instruction sets that kernels are written for. A processor may support any of them.
enum class Isa { kPlain, kAvx2, kAvxVnni, kAvx512, kAvx512Vnni };

// "plain", "avx2", "avxvnni", "avx512", "avx512vnni": what PTQ_ISA takes.
const char* isa_name(Isa isa);
// Whether this processor and its system can run it. Plain loops run everywhere.
bool supports(Isa isa);
// The last one in use: what the processor supports, up to the one that the environment variable PTQ_ISA
// names. Decided at the first call. Throws a usage Error if PTQ_ISA names one that is unknown or that this
// machine cannot run.
Isa highest_isa();

// One way to run an operation.
template <typename Operands>
struct Candidate {
  Isa isa;
  void (*run)(const Operands&);
};

// The ways to run an operation that are compiled in: plain loops first, the fastest last.
template <typename Operands>
std::span<const Candidate<Operands>> candidates();

template <>
std::span<const Candidate<SelectiveScan>> candidates();
template <>
std::span<const Candidate<SsdScan>> candidates();
template <>
std::span<const Candidate<CausalConv>> candidates();
template <>
std::span<const Candidate<Hadamard>> candidates();
template <>
std::span<const Candidate<QuantizeCodes>> candidates();
template <>
std::span<const Candidate<RoundToCodes>> candidates();
template <>
std::span<const Candidate<QuantizeAsymmetric>> candidates();
template <>
std::span<const Candidate<AbsMaxRows>> candidates();
template <>
std::span<const Candidate<RmsNorm>> candidates();
template <>
std::span<const Candidate<GatherColumns>> candidates();
template <>
std::span<const Candidate<RoundColumns>> candidates();
template <>
std::span<const Candidate<ProductExtremes>> candidates();
template <>
std::span<const Candidate<CodeProduct>> candidates();
template <>
std::span<const Candidate<WidenRows>> candidates();
template <>
std::span<const Candidate<StoredProduct>> candidates();
template <>
std::span<const Candidate<WeightedRows>> candidates();
template <>
std::span<const Candidate<Softmax>> candidates();

// The fastest that is supported and not beyond highest_isa().
template <typename Operands>
const Candidate<Operands>& chosen() {
  const auto rows = candidates<Operands>();
  size_t i = rows.size() - 1;
  while (i > 0 && (rows[i].isa > highest_isa() || !supports(rows[i].isa))) --i;
  return rows[i];
}

// Runs the chosen one.
template <typename Operands>
void run(const Operands& operands) {
  chosen<Operands>().run(operands);
}

}  // namespace ptq::kernels
