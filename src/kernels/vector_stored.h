// Rows that are widened to float32 in registers, their products with few rows, and softmax. Written once for
// AVX2 and AVX-512; besides the floats of vec_avx2.h or vec_avx512.h it wants these words:
//   widen_f16(p), widen_bf16(p), widen_i8(p)   kWidth numbers
//   Table                                      of 16 values
//   look_up_low(table, p), look_up_high        values of the low or the high halves of kWidth bytes
//   kColumnsOfOneRow                           rows of the weight in groups that are read at once for one row
//                                              x: as many as hide the latency of a multiply-add
//
// A row of the weight is taken in steps: of kWidth columns, or of the kU4Columns whose half bytes lie
// together.
#pragma once

#include "kernels/vector_sums.h"

namespace ptq::kernels {
namespace {

// What is known of a weight when the kernel is compiled.
template <Stored kind, bool zeros>
struct Kind {
  static constexpr Stored kStored = kind;
  static constexpr bool kZeros = zeros;
  static constexpr int kVectors =
      kind == Stored::kU4 ? static_cast<int>(kU4Columns / kWidth) : 1;  // of a step
  static constexpr int64_t kStep = kVectors * kWidth;
  static constexpr int64_t kStepBytes = kind == Stored::kU4   ? kU4Columns / 2
                                        : kind == Stored::kI8 ? kWidth
                                                              : 2 * kWidth;
};

// Vector v of the step whose bytes begin at p, without scale and zero point.
template <Stored kind>
inline Vec values_at(const uint8_t* p, [[maybe_unused]] int v, [[maybe_unused]] const Table& table) {
  if constexpr (kind == Stored::kF16) return widen_f16(p);
  if constexpr (kind == Stored::kBf16) return widen_bf16(p);
  if constexpr (kind == Stored::kI8) return widen_i8(p);
  constexpr int64_t kHalf = kU4Columns / 2;
  const int64_t first = v * kWidth;
  return first < kHalf ? look_up_low(table, p + first) : look_up_high(table, p + first - kHalf);
}

// The bytes of the last `columns` columns of a row, and zeros behind them: what lies past the row is not
// touched. Of half bytes whole steps are there.
template <typename K>
struct LastStep {
  LastStep(const uint8_t* p, int64_t columns) {
    const int64_t size = K::kStored == Stored::kU4 ? K::kStepBytes : columns * K::kStepBytes / K::kStep;
    __builtin_memcpy(bytes, p, static_cast<size_t>(size));
  }
  uint8_t bytes[K::kStepBytes] = {};
};

constexpr float kNoTable[16] = {};

inline Table table_of(const StoredRows& w) {
  return Table(w.table ? w.table : kNoTable);
}

inline const uint8_t* row_of(const StoredRows& w, int64_t row) {
  return static_cast<const uint8_t*>(w.data) + row * w.row_bytes;
}

// How the columns are cut, and where the scale and the zero point of a row and group lie.
struct Groups {
  explicit Groups(const StoredRows& w)
      : one_scale(w.one_scale),
        count(w.one_scale ? 1 : (w.columns + w.group - 1) / w.group),
        size(count == 1 ? w.columns : w.group),
        columns(w.columns) {}
  int64_t end(int64_t g) const { return g + 1 < count ? (g + 1) * size : columns; }
  int64_t at(int64_t row, int64_t g) const { return one_scale ? 0 : row * count + g; }

  bool one_scale;
  int64_t count, size, columns;
};

template <typename K>
inline Vec zero_of(const StoredRows& w, int64_t at) {
  if constexpr (K::kZeros) return broadcast(static_cast<float>(w.zero[at]));
  return zero();
}
inline Vec scale_of(const StoredRows& w, int64_t at) {
  return broadcast(w.scale ? w.scale[at] : 1.0f);
}

template <typename K>
void widen_rows(const WidenRows& s) {
  const Table table = table_of(s.w);
  const Groups groups(s.w);
  for (int64_t i = 0; i < s.rows; ++i) {
    const uint8_t* p = row_of(s.w, s.first + i);
    float* y = s.y + i * s.y_stride;
    for (int64_t g = 0, k = 0; g < groups.count; ++g) {
      const int64_t at = groups.at(s.first + i, g), end = groups.end(g);
      const Vec zero_point = zero_of<K>(s.w, at), scale = scale_of(s.w, at);
      for (; k + K::kStep <= end; k += K::kStep, p += K::kStepBytes)
        for (int v = 0; v < K::kVectors; ++v)
          store(y + k + v * kWidth, mul(sub(values_at<K::kStored>(p, v, table), zero_point), scale));
      if (k == end) continue;
      const LastStep<K> last(p, end - k);
      p += (end - k) * K::kStepBytes / K::kStep;
      for (int v = 0; v < K::kVectors && k < end; ++v, k += kWidth) {
        const Vec value = mul(sub(values_at<K::kStored>(last.bytes, v, table), zero_point), scale);
        store(y + k, value, SomeLanes(end - k < kWidth ? end - k : kWidth));
      }
      k = end;
    }
  }
}

// One row after the other is used up faster than the processor's prefetcher runs ahead: of bytes, and of
// 16-bit floats by vectors of 64 bytes. The distances measured best; with AVX2 none helps the latter.
template <typename K>
inline void prefetch_stream(const uint8_t* from) {
  if constexpr (K::kStored == Stored::kI8) {
    __builtin_prefetch(from + 4096);
  } else if constexpr (K::kStored != Stored::kU4 && kWidth == 16) {
    __builtin_prefetch(from + 16384, 0, 1);
  }
}

// The products of kRows rows x with kColumns rows of the weight, in kChains chains of multiply-adds each: one
// chain alone would wait for itself.
template <int kRows, int kColumns, int kChains>
using Sums = Vec[kRows][kColumns][kChains];

// Adds the products of one step, whose first vector goes to chain `first`.
template <typename K, int kRows, int kColumns, int kChains>
inline void add_step(const StoredProduct& s, const Table& table, const float* x, const uint8_t* p,
                     const Vec* zero_point, int first, Sums<kRows, kColumns, kChains>& sum) {
#pragma GCC unroll 4
  for (int v = 0; v < K::kVectors; ++v) {
    Vec inputs[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) inputs[r] = load(x + r * s.x_stride + v * kWidth);
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) {
      const uint8_t* from = p + c * s.w.row_bytes;
      // Rows side by side are streams too short for the processor to see.
      if (kColumns > 1 && v == 0) __builtin_prefetch(from + kColumns * s.w.row_bytes);
      if (kColumns == 1 && v == 0) prefetch_stream<K>(from);
      Vec value = values_at<K::kStored>(from, v, table);
      if constexpr (K::kZeros) value = sub(value, zero_point[c]);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        Vec& chain = sum[r][c][(first + v) % kChains];
        chain = fma(inputs[r], value, chain);
      }
    }
  }
}

// The same of the last `count` columns of a group, fewer than a step has.
template <typename K, int kRows, int kColumns, int kChains>
inline void add_last(const StoredProduct& s, const Table& table, const float* x, const uint8_t* p,
                     const Vec* zero_point, int64_t count, Sums<kRows, kColumns, kChains>& sum) {
  for (int c = 0; c < kColumns; ++c) {
    const LastStep<K> last(p + c * s.w.row_bytes, count);
    for (int v = 0; v < K::kVectors && v * kWidth < count; ++v) {
      const int64_t left = count - v * kWidth;
      const SomeLanes lanes(left < kWidth ? left : kWidth);
      Vec value = values_at<K::kStored>(last.bytes, v, table);
      if constexpr (K::kZeros) value = sub(value, zero_point[c]);
      for (int r = 0; r < kRows; ++r)
        sum[r][c][0] = fma(load(x + r * s.x_stride + v * kWidth, lanes), value, sum[r][c][0]);
    }
  }
}

template <int kRows, int kColumns, int kChains>
inline void clear(Sums<kRows, kColumns, kChains>& sum) {
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c)
#pragma GCC unroll 4
      for (int i = 0; i < kChains; ++i) sum[r][c][i] = zero();
}

template <int kChains>
inline Vec sum_chains(const Vec* chain) {
  if constexpr (kChains == 4) return add(add(chain[0], chain[1]), add(chain[2], chain[3]));
  return chain[0];
}

template <typename K, int kRows, int kColumns, int kChains>
inline void multiply_block(const StoredProduct& s, const Table& table, int64_t row, int64_t column) {
  constexpr int kSteps = kChains > K::kVectors ? kChains / K::kVectors : 1;  // until each chain had its turn
  const Groups groups(s.w);
  const uint8_t* p = row_of(s.w, s.first + column);
  const float* x = s.x + row * s.x_stride;
  Sums<kRows, kColumns, 1> total;
  clear<kRows, kColumns, 1>(total);
  for (int64_t g = 0, k = 0; g < groups.count; ++g) {
    const int64_t end = groups.end(g);
    Vec zero_point[kColumns];
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) zero_point[c] = zero_of<K>(s.w, groups.at(s.first + column + c, g));
    Sums<kRows, kColumns, kChains> sum;
    clear<kRows, kColumns, kChains>(sum);
    for (; k + kSteps * K::kStep <= end; k += kSteps * K::kStep, p += kSteps * K::kStepBytes)
#pragma GCC unroll 4
      for (int i = 0; i < kSteps; ++i)
        add_step<K, kRows, kColumns, kChains>(s, table, x + k + i * K::kStep, p + i * K::kStepBytes,
                                              zero_point, i * K::kVectors, sum);
    for (; kSteps > 1 && k + K::kStep <= end; k += K::kStep, p += K::kStepBytes)
      add_step<K, kRows, kColumns, kChains>(s, table, x + k, p, zero_point, 0, sum);
    if (k < end) {
      add_last<K, kRows, kColumns, kChains>(s, table, x + k, p, zero_point, end - k, sum);
      p += (end - k) * K::kStepBytes / K::kStep;
      k = end;
    }
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) {
      const Vec scale = scale_of(s.w, groups.at(s.first + column + c, g));
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r)
        total[r][c][0] = fma(sum_chains<kChains>(sum[r][c]), scale, total[r][c][0]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    float* y = s.y + (row + r) * s.y_stride + column;
    if constexpr (kColumns % 4 == 0) {
#pragma GCC unroll 8
      for (int c = 0; c < kColumns; c += 4) sum_lanes_of_four(&total[r][c][0], y + c);
    } else {
#pragma GCC unroll 8
      for (int c = 0; c < kColumns; ++c) y[c] = sum_lanes(total[r][c][0]);
    }
  }
}

template <typename K, int kRows, int kColumns, int kChains>
inline void multiply_rows(const StoredProduct& s, const Table& table, int64_t row) {
  int64_t column = 0;
  for (; column + kColumns <= s.columns; column += kColumns)
    multiply_block<K, kRows, kColumns, kChains>(s, table, row, column);
  if constexpr (kColumns > 1) {
    for (; column < s.columns; ++column) multiply_block<K, kRows, 1, kChains>(s, table, row, column);
  }
}

constexpr int64_t kShortRow = 256;                     // columns; of keys and values
constexpr int kColumnsOfThree = kWidth == 16 ? 4 : 2;  // of three rows: as many sums as there are registers

// Whole rows, one after the other, are the longest stream; short rows and groups have no use for several
// chains, so that several rows take their place.
template <typename K>
void stored_product(const StoredProduct& s) {
  const Table table = table_of(s.w);
  const bool whole_rows = K::kStored != Stored::kU4 && Groups(s.w).count == 1 && s.w.columns > kShortRow;
  int64_t row = 0;
  if (whole_rows) {
    for (; row + 4 <= s.rows; row += 4) multiply_rows<K, 4, 1, 4>(s, table, row);
    for (; row < s.rows; ++row) multiply_rows<K, 1, 1, 4>(s, table, row);
    return;
  }
  for (; row + 4 <= s.rows; row += 4) multiply_rows<K, 4, 2, 1>(s, table, row);
  for (; row + 3 <= s.rows; row += 3) multiply_rows<K, 3, kColumnsOfThree, 1>(s, table, row);
  for (; row + 2 <= s.rows; row += 2) multiply_rows<K, 2, 4, 1>(s, table, row);
  for (; row < s.rows; ++row) multiply_rows<K, 1, kColumnsOfOneRow, 1>(s, table, row);
}

constexpr int kSumsOfRow = kWidth == 16 ? 4 : 2;  // vectors of the result of a row that are in registers

// kRows rows of x, and the columns of kSteps steps from column k on, of which `left` are there: all, if there
// are several steps.
template <typename K, int kRows, int kSteps>
inline void weigh_steps(const WeightedRows& s, const Table& table, int64_t row, int64_t k, int64_t left) {
  constexpr int kSums = kSteps * K::kVectors;
  const Groups groups(s.w);
  const int64_t begin = k * K::kStepBytes / K::kStep;
  Vec sum[kRows][kSums];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kSums; ++v) sum[r][v] = zero();
  const auto add_row = [&](const uint8_t* p, int64_t c) {
    const int64_t at = groups.at(s.first + c, 0);
    const Vec zero_point = zero_of<K>(s.w, at);
    const float scale = s.w.scale ? s.w.scale[at] : 1.0f;
    Vec weight[kRows];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) weight[r] = broadcast(s.x[(row + r) * s.x_stride + c] * scale);
#pragma GCC unroll 4
    for (int v = 0; v < kSums; ++v) {
      Vec value = values_at<K::kStored>(p + v / K::kVectors * K::kStepBytes, v % K::kVectors, table);
      if constexpr (K::kZeros) value = sub(value, zero_point);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) sum[r][v] = fma(weight[r], value, sum[r][v]);
    }
  };
  for (int64_t c = 0; c < s.count; ++c) {
    const uint8_t* p = row_of(s.w, s.first + c) + begin;
    if (left >= kSteps * K::kStep) {
      add_row(p, c);
    } else {
      add_row(LastStep<K>(p, left).bytes, c);
    }
  }
  for (int v = 0; v < kSums && v * kWidth < left; ++v) {
    const int64_t lanes = left - v * kWidth;
    for (int r = 0; r < kRows; ++r)
      store(s.y + (row + r) * s.y_stride + k + v * kWidth, sum[r][v],
            SomeLanes(lanes < kWidth ? lanes : kWidth));
  }
}

template <typename K, int kSteps>
void weigh_columns(const WeightedRows& s, const Table& table, int64_t k, int64_t left) {
  int64_t row = 0;
  for (; row + 4 <= s.rows; row += 4) weigh_steps<K, 4, kSteps>(s, table, row, k, left);
  for (; row + 3 <= s.rows; row += 3) weigh_steps<K, 3, kSteps>(s, table, row, k, left);
  for (; row < s.rows; ++row) weigh_steps<K, 1, kSteps>(s, table, row, k, left);
}

template <typename K>
void weighted_rows(const WeightedRows& s) {
  constexpr int kSteps = kSumsOfRow > K::kVectors ? kSumsOfRow / K::kVectors : 1;
  const Table table = table_of(s.w);
  int64_t k = 0;
  for (; k + kSteps * K::kStep <= s.w.columns; k += kSteps * K::kStep)
    weigh_columns<K, kSteps>(s, table, k, s.w.columns - k);
  for (; k < s.w.columns; k += K::kStep) weigh_columns<K, 1>(s, table, k, s.w.columns - k);
}

void softmax(const Softmax& s) {
  const int64_t whole = s.columns - s.columns % kWidth;
  const SomeLanes rest(s.columns - whole);
  for (int64_t r = 0; r < s.rows; ++r) {
    float* x = s.x + r * s.x_stride;
    float largest = x[0];
    for (int64_t c = 1; c < s.columns; ++c) largest = x[c] > largest ? x[c] : largest;
    const Vec shift = broadcast(largest), scale = broadcast(s.scale);
    const auto power = [&](Vec v) { return exp(mul(scale, sub(v, shift))); };
    Vec sum = zero();
    for (int64_t c = 0; c < whole; c += kWidth) {
      const Vec y = power(load(x + c));
      store(x + c, y);
      sum = add(sum, y);
    }
    float total = sum_lanes(sum);
    if (whole < s.columns) {
      store(x + whole, power(load(x + whole, rest)), rest);
      for (int64_t c = whole; c < s.columns; ++c) total += x[c];
    }
    const Vec divisor = broadcast(total);
    for (int64_t c = 0; c < whole; c += kWidth) store(x + c, div(load(x + c), divisor));
    if (whole < s.columns) store(x + whole, div(load(x + whole, rest), divisor), rest);
  }
}

template <Stored kind, typename Run>
inline void with_zeros(bool zeros, const Run& run) {
  return zeros ? run(Kind<kind, true>{}) : run(Kind<kind, false>{});
}

// Calls `run` with the weight's Kind.
template <typename Run>
inline void with_kind(const StoredRows& w, const Run& run) {
  switch (w.stored) {
    case Stored::kF16:
      return run(Kind<Stored::kF16, false>{});
    case Stored::kBf16:
      return run(Kind<Stored::kBf16, false>{});
    case Stored::kI8:
      return with_zeros<Stored::kI8>(w.zero != nullptr, run);
    case Stored::kU4:
      return with_zeros<Stored::kU4>(w.zero != nullptr, run);
  }
}

inline void widen(const WidenRows& s) {
  with_kind(s.w, [&](auto kind) { widen_rows<decltype(kind)>(s); });
}
inline void multiply(const StoredProduct& s) {
  with_kind(s.w, [&](auto kind) { stored_product<decltype(kind)>(s); });
}
inline void weigh(const WeightedRows& s) {
  with_kind(s.w, [&](auto kind) { weighted_rows<decltype(kind)>(s); });
}

}  // namespace
}  // namespace ptq::kernels
