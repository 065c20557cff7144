// Every instruction set the machine has against the plain loops: kernels that work on columns.
#include "inputs.h"

namespace ptq::kernels {
namespace {

TEST(GatherColumns, EveryIsaGivesTheBitsOfThePlainLoops) {
  std::mt19937 random(3);
  for (const int64_t columns : {1, 2, 7, 8, 9, 15, 16, 17, 33, 576}) {
    const std::vector<float> x = values("specials", 3, 40);
    std::vector<int32_t> index(static_cast<size_t>(columns));
    for (int32_t& i : index) i = static_cast<int32_t>(random() % 40);
    auto run = [&](const Candidate<GatherColumns>& kernel) {
      Output y(3, columns, columns + 2);
      kernel.run({x.data(), index.data(), y.data(), 40, columns + 2, 3, columns});
      return y.take();
    };
    const std::vector<float> expected = run(plain_loops<GatherColumns>());
    EXPECT_TRUE(same_value(expected[0], x[static_cast<size_t>(index[0])]));
    for (const Candidate<GatherColumns>& candidate : vectorized<GatherColumns>())
      expect_same_bits(run(candidate), expected,
                       std::string(isa_name(candidate.isa)) + " " + std::to_string(columns));
  }
}

// A block of weights, as round_columns() takes it.
struct Block {
  Block(const std::string& name, int64_t columns_, int64_t rows_)
      : columns(columns_),
        rows(rows_),
        w(values(name, columns, rows)),
        v(values("normal", columns, rows, 2)),
        R(values("normal", columns, columns + 3, 4)),
        scale(values("flat", 2, rows)),
        divisor(scale),
        zero(static_cast<size_t>(2 * rows), 1.0f) {
    for (size_t i = 0; i < v.size(); ++i) v[i] += w[i];
    divisor[0] = INFINITY;  // a group of zeros
    for (int64_t j = 0; j < columns; ++j) grid.push_back(j * 2 / columns);
  }

  // Codes, errors and what the columns should have been, one after the other.
  std::vector<float> run(const Candidate<RoundColumns>& kernel) const {
    Output codes(columns, rows, rows), error(columns, rows, rows), settled(columns, rows, rows);
    std::copy(v.begin(), v.end(), settled.data());
    kernel.run({.w = w.data(),
                .v = settled.data(),
                .R = R.data(),
                .scale = scale.data(),
                .divisor = divisor.data(),
                .zero = zero.data(),
                .grid = grid.data(),
                .codes = codes.data(),
                .error = error.data(),
                .R_stride = columns + 3,
                .columns = columns,
                .rows = rows,
                .low = -8,
                .high = 7});
    std::vector<float> all = codes.take();
    for (Output* other : {&error, &settled}) {
      const std::vector<float> more = other->take();
      all.insert(all.end(), more.begin(), more.end());
    }
    return all;
  }

  int64_t columns, rows;
  std::vector<float> w, v, R, scale, divisor, zero;
  std::vector<int64_t> grid;
};

TEST(RoundColumns, EveryIsaGivesTheBitsOfThePlainLoops) {
  for (const std::string name : {"normal", "outlier", "zeros", "denormals", "specials"}) {
    for (const int64_t columns : {1, 2, 9, 64}) {
      for (const int64_t rows : {1, 7, 8, 16, 31, 32, 33, 64, 71}) {
        const Block block(name, columns, rows);
        const std::vector<float> expected = block.run(plain_loops<RoundColumns>());
        for (const Candidate<RoundColumns>& candidate : vectorized<RoundColumns>()) {
          expect_same_bits(block.run(candidate), expected,
                           std::string(isa_name(candidate.isa)) + " " + name + std::to_string(columns) + " " +
                               std::to_string(rows));
        }
      }
    }
  }
}

// Two columns that go together: the first is rounded down, so the second is asked for more and rounded up.
TEST(RoundColumns, ErrorOfTheFirstColumnMovesTheSecond) {
  const std::vector<float> w = {0.4f, 0.4f}, R = {1, 0.9f, 0, 1}, one = {1}, none = {0};
  const std::vector<int64_t> grid = {0, 0};
  for (const Candidate<RoundColumns>& candidate : supported<RoundColumns>()) {
    std::vector<float> v = w, codes(2), error(2);
    candidate.run({w.data(), v.data(), R.data(), one.data(), one.data(), none.data(), grid.data(),
                   codes.data(), error.data(), 2, 2, 1, -8, 7});
    EXPECT_EQ(codes, (std::vector<float>{0, 1})) << isa_name(candidate.isa);
    EXPECT_FLOAT_EQ(v[1], 0.76f) << isa_name(candidate.isa);
    EXPECT_FLOAT_EQ(error[0], 0.4f) << isa_name(candidate.isa);
    EXPECT_FLOAT_EQ(error[1], -0.6f) << isa_name(candidate.isa);
  }
}

TEST(RoundColumns, NanBecomesTheLowestCode) {
  const std::vector<float> w = {NAN}, R = {1}, one = {1}, none = {0};
  const std::vector<int64_t> grid = {0};
  for (const Candidate<RoundColumns>& candidate : supported<RoundColumns>()) {
    std::vector<float> v = w, codes(1), error(1);
    candidate.run({w.data(), v.data(), R.data(), one.data(), one.data(), none.data(), grid.data(),
                   codes.data(), error.data(), 1, 1, 1, -8, 7});
    EXPECT_EQ(codes[0], -8) << isa_name(candidate.isa);
  }
}

}  // namespace
}  // namespace ptq::kernels
