// Every instruction set the machine has against the plain loops: row kernels and the choice of candidates.
// The scan and the convolution are in scan_test.cpp.
#include <cstdlib>

#include "inputs.h"
#include "ptq/base/error.h"

namespace ptq::kernels {
namespace {

const std::vector<int64_t> kColumns = {1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 100, 129, 768};

template <typename Operands>
std::string describe(const Candidate<Operands>& candidate, const std::string& name, int64_t columns) {
  return std::string(isa_name(candidate.isa)) + " " + name + " " + std::to_string(columns);
}

TEST(QuantizeCodes, EveryIsaGivesTheCodesOfThePlainLoops) {
  for (const Candidate<QuantizeCodes>& candidate : vectorized<QuantizeCodes>()) {
    for (const std::string& name : kDistributions) {
      for (const int64_t columns : kColumns) {
        const std::vector<float> x = values(name, 3, columns + 1);
        for (const std::vector<float>& scale :
             {std::vector<float>{0.1f, 0.0f, 3.0f}, {1e-40f, 1e30f, 0.37f}, {INFINITY, NAN, 1.0f}}) {
          for (const int64_t scale_stride : {0, 1}) {
            auto run = [&](const Candidate<QuantizeCodes>& kernel) {
              OutputOf<int8_t> y(3, columns, columns + 2);
              bool has_nan = true;
              kernel.run({x.data(), scale.data(), y.data(), &has_nan, columns + 1, columns + 2, scale_stride,
                          3, columns, -128, 127});
              return std::pair(y.take(), has_nan);
            };
            ASSERT_EQ(run(candidate), run(plain_loops<QuantizeCodes>()))
                << describe(candidate, name, columns);
          }
        }
      }
    }
  }
}

TEST(RoundToCodes, EveryIsaGivesTheBitsOfThePlainLoops) {
  for (const Candidate<RoundToCodes>& candidate : vectorized<RoundToCodes>()) {
    for (const std::string& name : kDistributions) {
      for (const int64_t columns : kColumns) {
        const std::vector<float> x = values(name, 3, columns + 1);
        std::vector<float> scale = values("normal", 1, columns, 7);
        for (float& s : scale) s = std::abs(s) + 0.01F;
        for (const int64_t scale_stride : {0, 1}) {
          auto run = [&](const Candidate<RoundToCodes>& kernel) {
            OutputOf<float> y(3, columns, columns + 2);
            kernel.run({x.data(), scale.data(), y.data(), columns + 1, columns + 2, scale_stride, 3, columns,
                        -128, 127});
            return y.take();
          };
          expect_same_bits(run(candidate), run(plain_loops<RoundToCodes>()),
                           describe(candidate, name, columns));
        }
      }
    }
  }
}

TEST(QuantizeCodes, HalvesGoToEven) {
  for (const Candidate<QuantizeCodes>& candidate : supported<QuantizeCodes>()) {
    const std::vector<float> x = {0.5f, 1.5f, 2.5f, -0.5f, -1.5f, 0.49999997f, 8388609.0f, -3e38f, 3e38f};
    const float scale = 1;
    OutputOf<int8_t> y(1, 9, 9);
    bool has_nan = true;
    candidate.run({x.data(), &scale, y.data(), &has_nan, 9, 9, 0, 1, 9, -8, 7});
    EXPECT_EQ(y.take(), (std::vector<int8_t>{0, 2, 2, 0, -2, 0, 7, -8, 7})) << isa_name(candidate.isa);
    EXPECT_FALSE(has_nan) << isa_name(candidate.isa);
  }
}

TEST(QuantizeCodes, RangeOfEightBitsIsReachedAtBothEnds) {
  for (const Candidate<QuantizeCodes>& candidate : supported<QuantizeCodes>()) {
    const std::vector<float> x = {-129, -128, -127, 126, 127, 128, INFINITY, -INFINITY};
    const float scale = 1;
    OutputOf<int8_t> y(1, 8, 8);
    bool has_nan = true;
    candidate.run({x.data(), &scale, y.data(), &has_nan, 8, 8, 0, 1, 8, -128, 127});
    EXPECT_EQ(y.take(), (std::vector<int8_t>{-128, -128, -127, 126, 127, 127, 127, -128}))
        << isa_name(candidate.isa);
    EXPECT_FALSE(has_nan) << isa_name(candidate.isa);
  }
}

TEST(QuantizeCodes, NanInAnyLaneOfAnyRowHasTheLowestCodeAndIsReported) {
  for (const Candidate<QuantizeCodes>& candidate : supported<QuantizeCodes>()) {
    for (size_t place = 0; place < 300; ++place) {
      std::vector<float> x(300, 1.0f);
      x[place] = NAN;
      const float scale = 0.5f;
      OutputOf<int8_t> y(2, 150, 150);
      bool has_nan = false;
      candidate.run({x.data(), &scale, y.data(), &has_nan, 150, 150, 0, 2, 150, -8, 7});
      std::vector<int8_t> expected(300, 2);
      expected[place] = -8;
      EXPECT_EQ(y.take(), expected) << isa_name(candidate.isa) << " " << place;
      EXPECT_TRUE(has_nan) << isa_name(candidate.isa) << " " << place;
    }
  }
}

// What the kernel makes of rows.
struct Asymmetric {
  std::vector<uint8_t> y, zero;
  std::vector<float> step;
};

TEST(QuantizeAsymmetric, EveryIsaGivesTheBitsOfThePlainLoops) {
  for (const Candidate<QuantizeAsymmetric>& candidate : vectorized<QuantizeAsymmetric>()) {
    for (const std::string& name : kDistributions) {
      for (const int64_t columns : kColumns) {
        std::vector<float> x = values(name, 4, columns + 1);
        for (size_t i = 0; i < static_cast<size_t>(columns); ++i) x[i] = std::fabs(x[i]);  // one end is 0
        for (const auto& [last, clip] : {std::pair{15.0f, 0.9f}, {255.0f, 1.0f}, {3.0f, 0.5f}}) {
          auto run = [&, last = last, clip = clip](const Candidate<QuantizeAsymmetric>& kernel) {
            OutputOf<uint8_t> y(4, columns, columns + 2), zero(1, 4, 4);
            Output step(1, 4, 4);
            kernel.run({x.data(), y.data(), zero.data(), step.data(), columns + 1, columns + 2, 4, columns,
                        last, clip});
            return Asymmetric{y.take(), zero.take(), step.take()};
          };
          const Asymmetric got = run(candidate), expected = run(plain_loops<QuantizeAsymmetric>());
          const std::string what = describe(candidate, name, columns);
          ASSERT_EQ(got.y, expected.y) << what;
          ASSERT_EQ(got.zero, expected.zero) << what;
          expect_same_bits(got.step, expected.step, what);
        }
      }
    }
  }
}

TEST(QuantizeAsymmetric, RowsByHand) {
  // The codes of one row, its zero point, its step.
  const auto run = [](const Candidate<QuantizeAsymmetric>& kernel, const std::vector<float>& x, float clip) {
    const auto columns = static_cast<int64_t>(x.size());
    OutputOf<uint8_t> y(1, columns, columns), zero(1, 1, 1);
    float step = 0;
    kernel.run({x.data(), y.data(), zero.data(), &step, columns, columns, 1, columns, 15, clip});
    std::vector<float> all;
    for (const uint8_t code : y.take()) all.push_back(code);
    all.push_back(zero.take()[0]);
    all.push_back(step);
    return all;
  };
  for (const Candidate<QuantizeAsymmetric>& candidate : supported<QuantizeAsymmetric>()) {
    // The range -3.5 to 11.5 is 15 steps; halves go to the even code, and 12 + 4 is past the last.
    EXPECT_EQ(run(candidate, {-3.5f, -2.5f, -0.5f, 0, 0.5f, 1.5f, 11.5f}, 1),
              (std::vector<float>{0, 2, 4, 4, 4, 6, 15, /*zero*/ 4, /*step*/ 1}))
        << isa_name(candidate.isa);
    EXPECT_EQ(run(candidate, {-30, -15, 0}, 0.5f), (std::vector<float>{0, 0, 15, 15, 1}))
        << isa_name(candidate.isa);
    EXPECT_EQ(run(candidate, {3, 3}, 1), (std::vector<float>{15, 15, 0, 0.2f})) << isa_name(candidate.isa);
    EXPECT_EQ(run(candidate, {0, -0.0f}, 1), (std::vector<float>{0, 0, 0, kSmallestStep}))
        << isa_name(candidate.isa);
    EXPECT_EQ(run(candidate, {0x1.ep+103f, 0}, 1), (std::vector<float>{15, 0, 0, 0x1p+100f}))
        << isa_name(candidate.isa);
    EXPECT_EQ(run(candidate, {INFINITY, 1e6f, -1}, 1), (std::vector<float>{0, 0, 0, 0, INFINITY}))
        << isa_name(candidate.isa);
  }
}

TEST(QuantizeAsymmetric, TheEndsAreFoundInEveryLaneAndNanTakesTheRow) {
  for (const Candidate<QuantizeAsymmetric>& candidate : supported<QuantizeAsymmetric>()) {
    for (size_t place = 0; place < 150; ++place) {
      std::vector<float> x(150, 0.5f);
      std::vector<uint8_t> y(150, 93);
      uint8_t zero = 93;
      float step = 0;
      const auto run = [&](float value) {
        x[place] = value;
        candidate.run({x.data(), y.data(), &zero, &step, 150, 150, 1, 150, 15, 1});
      };
      run(15);
      EXPECT_EQ(step, 1.0f) << isa_name(candidate.isa) << " " << place;
      EXPECT_EQ(y[place], 15);
      EXPECT_EQ(zero, 0);
      run(-14.5f);
      EXPECT_EQ(step, 1.0f) << isa_name(candidate.isa) << " " << place;
      EXPECT_EQ(y[place], 0);
      EXPECT_EQ(zero, 14);
      run(NAN);
      EXPECT_TRUE(std::isnan(step)) << isa_name(candidate.isa) << " " << place;
      EXPECT_EQ(y, std::vector<uint8_t>(150, 0)) << isa_name(candidate.isa) << " " << place;
      EXPECT_EQ(zero, 0) << isa_name(candidate.isa) << " " << place;
    }
  }
}

TEST(AbsMaxRows, EveryIsaGivesTheBitsOfThePlainLoops) {
  for (const Candidate<AbsMaxRows>& candidate : vectorized<AbsMaxRows>()) {
    for (const std::string& name : kDistributions) {
      for (const int64_t columns : kColumns) {
        const std::vector<float> x = values(name, 4, columns + 3);
        auto run = [&](const Candidate<AbsMaxRows>& kernel) {
          Output y(1, 4, 4);
          kernel.run({x.data(), y.data(), columns + 3, 4, columns});
          return y.take();
        };
        expect_same_bits(run(candidate), run(plain_loops<AbsMaxRows>()), describe(candidate, name, columns));
      }
    }
  }
}

TEST(AbsMaxRows, TheLargestIsFoundInEveryLane) {
  for (const Candidate<AbsMaxRows>& candidate : supported<AbsMaxRows>()) {
    for (size_t place = 0; place < 150; ++place) {
      std::vector<float> x(150, 1.0f);
      x[place] = -2.0f;
      float y = 0;
      candidate.run({x.data(), &y, 150, 1, 150});
      EXPECT_EQ(y, 2.0f) << isa_name(candidate.isa) << " " << place;
      x[place] = NAN;
      candidate.run({x.data(), &y, 150, 1, 150});
      EXPECT_TRUE(std::isnan(y)) << isa_name(candidate.isa) << " " << place;
    }
  }
}

TEST(RmsNorm, EveryIsaAgreesWithThePlainLoops) {
  for (const Candidate<RmsNorm>& candidate : vectorized<RmsNorm>()) {
    for (const std::string name : {"flat", "ramp", "normal", "outlier", "zeros", "denormals"}) {
      for (const int64_t columns : kColumns) {
        const std::vector<float> x = values(name, 3, columns + 1), gain = values("normal", 1, columns, 2);
        auto run = [&](const Candidate<RmsNorm>& kernel) {
          Output y(3, columns, columns + 5);
          kernel.run({x.data(), gain.data(), y.data(), columns + 1, columns + 5, 3, columns, 1e-5f});
          return y.take();
        };
        expect_close(run(candidate), run(plain_loops<RmsNorm>()), 2e-6, describe(candidate, name, columns));
      }
    }
  }
}

TEST(Hadamard, EveryIsaGivesTheBitsOfThePlainLoops) {
  for (const int64_t m : {1, 2, 3, 12, 20, 28, 64}) {
    std::vector<float> base = values("normal", m, m, 3);
    for (float& entry : base) entry = entry < 0 ? -1.0f : 1.0f;
    if (m == 1) base[0] = 1.0f;
    for (int64_t chunk = 1; chunk <= (m == 1 ? 8192 : 256); chunk *= 2) {
      for (const std::string name : {"normal", "outlier", "ramp", "zeros", "huge", "denormals"}) {
        const int64_t block = m * chunk, columns = 2 * block;
        const std::vector<float> x = values(name, 2, columns + 1);
        auto run = [&](const Candidate<Hadamard>& kernel) {
          Output y(2, columns, columns + 3);
          kernel.run({x.data(), base.data(), y.data(), columns + 1, columns + 3, 2, columns, block, m});
          return y.take();
        };
        const std::vector<float> expected = run(plain_loops<Hadamard>());
        for (const Candidate<Hadamard>& candidate : vectorized<Hadamard>())
          expect_same_bits(run(candidate), expected,
                           describe(candidate, name, m) + " " + std::to_string(chunk));
      }
    }
  }
}

TEST(Hadamard, InPlaceAndTwiceIsTheIdentity) {
  for (const Candidate<Hadamard>& candidate : supported<Hadamard>()) {
    const std::vector<float> x = values("normal", 3, 1024);
    std::vector<float> y = x;
    const float base = 1;
    for (int i = 0; i < 2; ++i) candidate.run({y.data(), &base, y.data(), 1024, 1024, 3, 1024, 1024, 1});
    expect_close(y, x, 1e-6, isa_name(candidate.isa));
  }
}

// Random codes, of which every seventh is the least or the largest.
template <typename Code>
std::vector<Code> codes(int64_t size, unsigned seed) {
  using Limits = std::numeric_limits<Code>;
  std::mt19937 random(seed);
  std::vector<Code> all(static_cast<size_t>(size));
  for (Code& code : all) {
    code = static_cast<Code>(random() & 0xff);
    if (random() % 7 == 0) code = random() % 2 == 0 ? Limits::min() : Limits::max();
  }
  return all;
}

struct Product {
  Product(int64_t quads, int64_t tiles)
      : rows(codes<uint8_t>(quads * kProductRows * 4, 1)),
        columns(codes<int8_t>(tiles * quads * kProductColumns * 4, 2)),
        start(static_cast<size_t>(tiles * kProductColumns)) {
    for (size_t c = 0; c < start.size(); ++c)
      start[c] = (c % 2 == 0 ? -1 : 1) * static_cast<int32_t>(c * 1000);
  }

  // The largest entries of all rows, then the smallest ones. Fails the test if more was written.
  std::vector<int32_t> run(const Candidate<ProductExtremes>& kernel) const {
    constexpr size_t kRows = kProductRows;
    constexpr int32_t kGuard = 12345;
    std::vector<int32_t> y(2 * kRows + 3, kGuard);
    const auto tiles = static_cast<int64_t>(start.size()) / kProductColumns;
    const auto quads = static_cast<int64_t>(rows.size()) / kProductRows / 4;
    kernel.run({rows.data(), columns.data(), start.data(), y.data() + 1, y.data() + kRows + 2, quads, tiles});
    for (const size_t i : {size_t{0}, kRows + 1, 2 * kRows + 2})
      EXPECT_EQ(y[i], kGuard) << isa_name(kernel.isa) << " " << i;
    return y;
  }

  std::vector<uint8_t> rows;
  std::vector<int8_t> columns;
  std::vector<int32_t> start;
};

TEST(ProductExtremes, EveryIsaGivesTheNumbersOfThePlainLoops) {
  for (const int64_t quads : {0, 1, 2, 3, 5, 16, 31, 32, 33}) {
    for (const int64_t tiles : {1, 2, 3, 11, 22}) {
      const Product product(quads, tiles);
      const std::vector<int32_t> expected = product.run(plain_loops<ProductExtremes>());
      for (const Candidate<ProductExtremes>& candidate : vectorized<ProductExtremes>())
        EXPECT_EQ(product.run(candidate), expected)
            << isa_name(candidate.isa) << " " << quads << " " << tiles;
    }
  }
}

// Row r is r at channel r % 8 and 0 elsewhere; column c is c - 5 at all channels.
TEST(ProductExtremes, RowsByHand) {
  Product product(2, 2);
  std::fill(product.rows.begin(), product.rows.end(), uint8_t{0});
  std::fill(product.start.begin(), product.start.end(), 100);
  for (int64_t r = 0; r < kProductRows; ++r)
    product.rows[static_cast<size_t>((r % 8 / 4 * kProductRows + r) * 4 + r % 4)] = static_cast<uint8_t>(r);
  for (int64_t i = 0; i < 2 * 2 * kProductColumns * 4; ++i) {
    const int64_t tile = i / (2 * kProductColumns * 4), column = i / 4 % kProductColumns;
    product.columns[static_cast<size_t>(i)] = static_cast<int8_t>(tile * kProductColumns + column - 5);
  }
  for (const Candidate<ProductExtremes>& candidate : supported<ProductExtremes>()) {
    const std::vector<int32_t> y = product.run(candidate);
    for (int32_t r = 0; r < kProductRows; ++r) {
      EXPECT_EQ(y[static_cast<size_t>(1 + r)], 100 + 6 * r) << isa_name(candidate.isa);
      EXPECT_EQ(y[static_cast<size_t>(kProductRows + 2 + r)], 100 - 5 * r) << isa_name(candidate.isa);
    }
  }
}

// Where 16-bit sums in between would saturate, and 32-bit ones nearly overflow.
TEST(ProductExtremes, TheLargestSumsAreExact) {
  Product product(kMaxProductQuads, 1);
  for (const int32_t code : {-127, 127}) {
    std::fill(product.rows.begin(), product.rows.end(), static_cast<uint8_t>(code + 128));
    for (size_t i = 0; i < product.columns.size(); ++i) product.columns[i] = i / 4 % 2 == 0 ? 127 : -127;
    const int32_t size = 4 * kMaxProductQuads;
    for (size_t c = 0; c < product.start.size(); ++c)
      product.start[c] = (c % 2 == 0 ? -128 : 128) * 127 * size;
    for (const Candidate<ProductExtremes>& candidate : supported<ProductExtremes>()) {
      const std::vector<int32_t> y = product.run(candidate);
      EXPECT_EQ(y[1], 127 * 127 * size) << isa_name(candidate.isa);
      EXPECT_EQ(y[kProductRows + 2], -127 * 127 * size) << isa_name(candidate.isa);
    }
  }
}

TEST(Dispatch, PlainLoopsComeFirstAndTheChosenIsTheLastSupported) {
  EXPECT_EQ(plain_loops<RmsNorm>().isa, Isa::kPlain);
  EXPECT_EQ(chosen<RmsNorm>().isa, supported<RmsNorm>().back().isa);
  EXPECT_EQ(chosen<ProductExtremes>().isa, supported<ProductExtremes>().back().isa);
  EXPECT_EQ(chosen<CodeProduct>().isa, supported<CodeProduct>().back().isa);
}

// The choice is made once a process, so each value needs a process of its own.
void choose_with(const char* value) {
  setenv("PTQ_ISA", value, 1);
  try {
    std::fprintf(stderr, "chosen: %s\n", isa_name(chosen<RmsNorm>().isa));
    std::exit(0);
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    std::exit(static_cast<int>(error.exit_code()));
  }
}

TEST(DispatchDeathTest, EnvironmentForcesAnInstructionSet) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  for (const Candidate<RmsNorm>& candidate : supported<RmsNorm>()) {
    EXPECT_EXIT(choose_with(isa_name(candidate.isa)), testing::ExitedWithCode(0),
                std::string("chosen: ") + isa_name(candidate.isa) + "\n");
  }
}

TEST(DispatchDeathTest, UnknownInstructionSetIsAUsageError) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(choose_with("avx3"), testing::ExitedWithCode(2), "unknown instruction set 'avx3'");
}

}  // namespace
}  // namespace ptq::kernels
