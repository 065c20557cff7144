// Products of codes: every instruction set against the plain loops, and those against 64-bit integers.
#include <optional>
#include <tuple>

#include "inputs.h"

namespace ptq::kernels {
namespace {

int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

struct Shape {
  int64_t rows, columns, in;
  int64_t group;  // inputs, a multiple of 4, or of 8 for columns of 4 bits; or at least `in`
  bool row_zeros, column_zeros;
  int column_bits = 8;
  bool one_row_scale = false;

  int64_t quads() const { return whole_quads(in); }
  int64_t group_quads() const { return whole_quads(group); }
  int64_t groups() const { return ceil_div(quads(), group_quads()); }
  int64_t tiles() const { return ceil_div(columns, kCodeColumns); }
  // Of a code of a column, passed plus `half`.
  int half() const { return 1 << (column_bits - 1); }
  int64_t tile_bytes() const { return quads() * kCodeColumns * 4 * column_bits / 8; }
  std::string text() const {
    std::string all;
    for (const int64_t part :
         {rows, columns, in, group, int64_t{row_zeros}, int64_t{column_zeros}, int64_t{column_bits}})
      all += " " + std::to_string(part);
    return all;
  }

 private:
  // Quads of so many inputs whose codes of a column fill bytes.
  int64_t whole_quads(int64_t inputs) const {
    return column_bits == 4 ? ceil_div(inputs, 8) * 2 : ceil_div(inputs, 4);
  }
};

// Codes of which every fifth is the least or the largest.
class Random {
 public:
  explicit Random(unsigned seed) : engine_(seed) {}
  int64_t code(int64_t low, int64_t high) {
    const auto draw = engine_();
    if (draw % 5 == 0) return draw % 2 == 0 ? low : high;
    return low + static_cast<int64_t>(engine_()) % (high - low + 1);
  }
  float scale() { return std::uniform_real_distribution<float>(0.001f, 0.1f)(engine_); }

 private:
  std::mt19937 engine_;
};

// Matrices of codes, and what the kernel is given of them.
struct Codes {
  explicit Codes(const Shape& shape, std::optional<std::pair<int, int>> constants = {}) : s(shape) {
    Random random(static_cast<unsigned>(s.in * 131 + s.columns));
    x.resize(static_cast<size_t>(s.rows * s.in));
    w.resize(static_cast<size_t>(s.columns * s.in));
    for (int64_t& code : x) code = constants ? constants->first : random.code(-128, 127);
    for (int64_t& code : w) code = constants ? constants->second : random.code(-s.half(), s.half() - 1);
    for (int64_t i = 0; i < s.rows; ++i) {
      row_zero.push_back(static_cast<int32_t>(s.row_zeros ? random.code(-128, 127) : 0));
      row_scale.push_back(random.scale());
    }
    const auto size = static_cast<size_t>(s.tiles() * s.groups() * kCodeColumns);
    column_zero.resize(size, static_cast<uint8_t>(s.half()));
    for (uint8_t& zero : column_zero)
      if (s.column_zeros) zero = static_cast<uint8_t>(random.code(0, 2 * s.half() - 1));
    column_scale.resize(size);
    for (float& scale : column_scale) scale = random.scale();
    pack();
  }

  int64_t grid_at(int64_t column, int64_t group) const {
    return (column / kCodeColumns * s.groups() + group) * kCodeColumns + column % kCodeColumns;
  }
  int64_t stride() const { return s.quads() * 4 + 5; }

  void pack() {
    row_codes.assign(static_cast<size_t>(s.rows * stride()), 0);
    row_sums.assign(static_cast<size_t>(s.rows * s.groups()), 0);
    column_codes.assign(static_cast<size_t>(s.tiles() * s.tile_bytes()), 201);
    column_sums.assign(column_scale.size(), 0);
    for (int64_t k = 0; k < s.in; ++k) {
      const int64_t group = k / 4 / s.group_quads();
      for (int64_t r = 0; r < s.rows; ++r) {
        const int64_t code = x[static_cast<size_t>(r * s.in + k)];
        row_codes[static_cast<size_t>(r * stride() + k)] = static_cast<int8_t>(code);
        row_sums[static_cast<size_t>(r * s.groups() + group)] += static_cast<int32_t>(code);
      }
      for (int64_t c = 0; c < s.columns; ++c) {
        const int64_t code = w[static_cast<size_t>(c * s.in + k)] + s.half();
        place(c, k, static_cast<int>(code));
        const auto at = static_cast<size_t>(grid_at(c, group));
        column_sums[at] += static_cast<int32_t>(code - column_zero[at]);
      }
    }
  }

  // Leaves the other half of the byte.
  void place(int64_t column, int64_t k, int code) {
    const int64_t step = k / 4 * s.column_bits / 8, lane = column % kCodeColumns;
    uint8_t& byte = column_codes[static_cast<size_t>(column / kCodeColumns * s.tile_bytes() +
                                                     (step * kCodeColumns + lane) * 4 + k % 4)];
    if (s.column_bits == 8) {
      byte = static_cast<uint8_t>(code);
    } else if (k / 4 % 2 == 0) {
      byte = static_cast<uint8_t>((byte & 0xf0) | code);
    } else {
      byte = static_cast<uint8_t>((byte & 0x0f) | code << 4);
    }
  }

  std::vector<float> run(const Candidate<CodeProduct>& kernel) const {
    const int64_t y_stride = s.columns + 3;
    Output y(s.rows, s.columns, y_stride);
    kernel.run({.row_codes = row_codes.data(),
                .row_sums = row_sums.data(),
                .row_zero = s.row_zeros ? row_zero.data() : nullptr,
                .row_scale = row_scale.data(),
                .column_codes = column_codes.data(),
                .column_sums = column_sums.data(),
                .column_zero = s.column_zeros ? column_zero.data() : nullptr,
                .column_scale = column_scale.data(),
                .y = y.data(),
                .row_stride = stride(),
                .row_scale_stride = s.one_row_scale ? 0 : 1,
                .y_stride = y_stride,
                .rows = s.rows,
                .columns = s.columns,
                .quads = s.quads(),
                .group_quads = s.group_quads(),
                .column_bits = s.column_bits});
    return y.take();
  }

  // By the formula, with sums of 64 bits.
  std::vector<float> by_formula() const {
    std::vector<float> y;
    for (int64_t r = 0; r < s.rows; ++r) {
      for (int64_t c = 0; c < s.columns; ++c) {
        float value = 0;
        for (int64_t g = 0; g < s.groups(); ++g) {
          const auto at = static_cast<size_t>(grid_at(c, g));
          const int64_t begin = g * s.group_quads() * 4, end = std::min(s.in, begin + s.group_quads() * 4);
          int64_t sum = 0;
          for (int64_t k = begin; k < end; ++k)
            sum += (x[static_cast<size_t>(r * s.in + k)] - row_zero[static_cast<size_t>(r)]) *
                   (w[static_cast<size_t>(c * s.in + k)] + s.half() - column_zero[at]);
          const float part = static_cast<float>(sum) * column_scale[at];
          value = g == 0 ? part : value + part;
        }
        y.push_back(value * row_scale[s.one_row_scale ? 0 : static_cast<size_t>(r)]);
      }
    }
    return y;
  }

  Shape s;
  std::vector<int64_t> x, w;  // [rows, in], [columns, in]
  std::vector<int8_t> row_codes;
  std::vector<int32_t> row_sums, row_zero, column_sums;
  std::vector<uint8_t> column_codes, column_zero;
  std::vector<float> row_scale, column_scale;
};

void expect_of_every_isa(const Codes& codes) {
  const std::vector<float> expected = codes.by_formula();
  for (const Candidate<CodeProduct>& candidate : supported<CodeProduct>())
    expect_same_bits(codes.run(candidate), expected, isa_name(candidate.isa) + codes.s.text());
}

// Zero points of rows and of columns, and the columns' bits.
class CodeProducts : public ::testing::TestWithParam<std::tuple<bool, bool, int>> {
 protected:
  Shape shape(int64_t rows, int64_t columns, int64_t in, int64_t group) const {
    const auto& [row_zeros, column_zeros, bits] = GetParam();
    return {rows, columns, in, group, row_zeros, column_zeros, bits};
  }
  int64_t least_group() const { return 32 / std::get<2>(GetParam()); }
};

TEST_P(CodeProducts, FewInputsAreExactInEveryIsa) {
  for (int64_t in = 1; in <= 9; ++in) {
    for (const int64_t columns : {1, 16, 17}) {
      expect_of_every_isa(Codes(shape(3, columns, in, in)));
      expect_of_every_isa(Codes(shape(2, columns, in, least_group())));
    }
  }
}

TEST_P(CodeProducts, EveryNumberOfRowsIsExactInEveryIsa) {
  for (int64_t rows = 0; rows <= 33; ++rows) expect_of_every_isa(Codes(shape(rows, 70, 40, 40)));
}

TEST_P(CodeProducts, EveryNumberOfColumnsIsExactInEveryIsa) {
  for (int64_t columns = 1; columns <= 140; ++columns) {
    for (const int64_t rows : {1, 8}) expect_of_every_isa(Codes(shape(rows, columns, 12, 12)));
  }
}

TEST_P(CodeProducts, GroupsAndAShortLastOneAreAddedInOrderInEveryIsa) {
  for (const int64_t rows : {1, 2, 5, 7}) {
    for (const int64_t in : {4, 31, 32, 33, 100, 130, 257}) {
      for (const int64_t group : {least_group(), int64_t{32}, int64_t{104}, int64_t{128}})
        expect_of_every_isa(Codes(shape(rows, 33, in, group)));
    }
  }
}

TEST_P(CodeProducts, OneScaleOfAllRowsIsThatOfEach) {
  Shape s = shape(9, 20, 64, 32);
  s.one_row_scale = true;
  expect_of_every_isa(Codes(s));
}

INSTANTIATE_TEST_SUITE_P(ZeroPoints, CodeProducts,
                         ::testing::Combine(::testing::Bool(), ::testing::Bool(), ::testing::Values(8, 4)));

// Where 16-bit sums in between would saturate, and 32-bit ones nearly overflow.
TEST(CodeProduct, TheLargestSumsAreExactInEveryIsa) {
  for (const int bits : {8, 4}) {
    for (const int x : {-128, 127}) {
      for (const int w : {-(1 << (bits - 1)), (1 << (bits - 1)) - 1}) {
        for (const int64_t in : {1, 2, 17, 63, 64, 65, 4096, 131071})
          expect_of_every_isa(Codes({3, 17, in, in, false, false, bits}, std::pair{x, w}));
      }
    }
  }
}

// The largest |code - zero point| on both sides; 255 * 255 * 33,025 fits in 32 bits.
TEST(CodeProduct, TheLargestSumsWithZeroPointsAreExactInEveryIsa) {
  for (const int bits : {8, 4}) {
    for (const auto& [x, zero] : {std::pair{-128, 127}, {127, -128}}) {
      for (const int w : {-(1 << (bits - 1)), (1 << (bits - 1)) - 1}) {
        Codes codes({2, 17, 33025, 33025, true, true, bits}, std::pair{x, w});
        std::fill(codes.row_zero.begin(), codes.row_zero.end(), zero);
        std::fill(codes.column_zero.begin(), codes.column_zero.end(),
                  static_cast<uint8_t>(w < 0 ? (1 << bits) - 1 : 0));
        codes.pack();
        expect_of_every_isa(codes);
      }
    }
  }
}

void expect_parts_of_the_whole(const Codes& codes) {
  for (const Candidate<CodeProduct>& candidate : supported<CodeProduct>()) {
    const std::vector<float> whole = codes.run(candidate);
    std::vector<float> y(whole.size());
    const int64_t groups = codes.s.groups();
    for (int64_t row = 0; row < 7; row += 3) {
      for (int64_t tile = 0; tile < codes.s.tiles(); tile += 2) {
        const int64_t grid = tile * groups * kCodeColumns, column = tile * kCodeColumns;
        candidate.run({codes.row_codes.data() + row * codes.stride(), codes.row_sums.data() + row * groups,
                       codes.row_zero.data() + row, codes.row_scale.data() + row,
                       codes.column_codes.data() + tile * codes.s.tile_bytes(),
                       codes.column_sums.data() + grid, codes.column_zero.data() + grid,
                       codes.column_scale.data() + grid, y.data() + row * 70 + column, codes.stride(), 1, 70,
                       std::min<int64_t>(3, 7 - row), std::min<int64_t>(2 * kCodeColumns, 70 - column),
                       codes.s.quads(), codes.s.group_quads(), codes.s.column_bits});
      }
    }
    expect_same_bits(y, whole, isa_name(candidate.isa));
  }
}

TEST(CodeProduct, RowsAndColumnsMayBeSplitAmongCalls) {
  for (const int bits : {8, 4}) expect_parts_of_the_whole(Codes({7, 70, 130, 32, true, true, bits}));
}

TEST(CodeProduct, NanScaleOfARowIsItsOutputsAlone) {
  Codes codes({5, 33, 40, 40, false, false});
  codes.row_scale[2] = NAN;
  for (const Candidate<CodeProduct>& candidate : supported<CodeProduct>()) {
    const std::vector<float> y = codes.run(candidate);
    for (size_t i = 0; i < y.size(); ++i)
      EXPECT_EQ(std::isnan(y[i]), i / 33 == 2) << isa_name(candidate.isa) << " " << i;
  }
}

}  // namespace
}  // namespace ptq::kernels
