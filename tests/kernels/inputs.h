// Named distributions, guarded buffers and comparisons shared by the kernel tests.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "ptq/kernels/kernels.h"

namespace ptq::kernels {

inline const std::vector<std::string> kDistributions = {"flat",  "ramp", "normal",    "outlier",
                                                        "zeros", "huge", "denormals", "specials"};

// rows x columns values; "outlier" has one column 100 times the others, "specials" has infinities and NaN.
inline std::vector<float> values(const std::string& name, int64_t rows, int64_t columns, unsigned seed = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<size_t>(rows * columns));
  for (size_t i = 0; i < x.size(); ++i) {
    const float sample = normal(random);
    const auto column = static_cast<int64_t>(i) % columns;
    if (name == "flat") x[i] = 0.75f;
    if (name == "ramp") x[i] = -4.0f + 8.0f * static_cast<float>(i) / static_cast<float>(x.size());
    if (name == "normal") x[i] = sample;
    if (name == "outlier") x[i] = column == columns / 2 ? 100 * sample : sample;
    if (name == "huge") x[i] = sample * 1e30f;
    if (name == "denormals") x[i] = sample * 1e-40f;
    if (name == "specials") {
      const float kinds[] = {sample, -0.0f, INFINITY, -INFINITY, sample};
      x[i] = i % 97 == 96 ? NAN : kinds[random() % 5];
    }
  }
  return x;
}

// Room for `rows` rows of `columns` values, `stride` apart, with a pattern around them that must survive.
template <typename Value>
class OutputOf {
 public:
  OutputOf(int64_t rows, int64_t columns, int64_t stride)
      : rows_(rows),
        columns_(columns),
        stride_(stride),
        data_(static_cast<size_t>(rows * stride + 64), kGuard) {}

  Value* data() { return data_.data() + 32; }
  // The values without the gaps. Fails the test if something outside them was written.
  std::vector<Value> take() {
    std::vector<Value> out;
    for (int64_t i = -32; i < rows_ * stride_ + 32; ++i) {
      const bool inside = i >= 0 && i < rows_ * stride_ && i % stride_ < columns_;
      if (inside) {
        out.push_back(data()[i]);
      } else {
        EXPECT_EQ(data()[i], kGuard) << "written outside the output, at " << i;
      }
    }
    return out;
  }

 private:
  static constexpr Value kGuard = static_cast<Value>(sizeof(Value) == 1 ? 93 : 12345);
  int64_t rows_, columns_, stride_;
  std::vector<Value> data_;
};

using Output = OutputOf<float>;

inline bool same_value(float a, float b) {
  return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b) || (std::isnan(a) && std::isnan(b));
}

inline void expect_same_bits(const std::vector<float>& got, const std::vector<float>& expected,
                             const std::string& what) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_TRUE(same_value(got[i], expected[i]))
        << what << " at " << i << ": " << got[i] << " and " << expected[i];
}

// |got - expected| <= tolerance * the largest finite |expected| (or `at_least` if that is larger), and the
// same infinities and NaN.
inline void expect_close(const std::vector<float>& got, const std::vector<float>& expected, double tolerance,
                         const std::string& what, double at_least = 1e-37) {
  ASSERT_EQ(got.size(), expected.size());
  double largest = at_least;
  for (const float x : expected)
    if (std::isfinite(x)) largest = std::max(largest, std::fabs(static_cast<double>(x)));
  for (size_t i = 0; i < got.size(); ++i) {
    if (same_value(got[i], expected[i])) continue;
    const double error = std::fabs(static_cast<double>(got[i]) - static_cast<double>(expected[i])) / largest;
    ASSERT_LE(error, tolerance) << what << " at " << i << ": " << got[i] << " and " << expected[i];
  }
}

// The candidates that this machine can run, plain loops first.
template <typename Operands>
std::vector<Candidate<Operands>> supported() {
  std::vector<Candidate<Operands>> rows;
  for (const Candidate<Operands>& row : candidates<Operands>()) {
    if (supports(row.isa)) rows.push_back(row);
  }
  return rows;
}

template <typename Operands>
Candidate<Operands> plain_loops() {
  return candidates<Operands>().front();
}

// Those to test against the plain loops.
template <typename Operands>
std::vector<Candidate<Operands>> vectorized() {
  std::vector<Candidate<Operands>> rows = supported<Operands>();
  rows.erase(rows.begin());
  return rows;
}

}  // namespace ptq::kernels
