// Hadamard rotations: sizes, orthogonality, blocks, what artifacts record.
#include <gtest/gtest.h>

#include "../base/expect_error.h"
#include "ptq/model/hadamard.h"

namespace ptq {
namespace {

// Row i is H e_i, so this is H^T.
Tensor transposed_matrix(const Hadamard& H) {
  return H.apply(at::eye(H.size));
}

class HadamardOfSize : public ::testing::TestWithParam<int64_t> {};

TEST_P(HadamardOfSize, IsOrthogonalWithEqualMagnitudes) {
  const int64_t n = GetParam();
  const Hadamard H = make_hadamard(n);
  ASSERT_EQ(H.size, n);
  ASSERT_EQ(n % H.block, 0);
  const Tensor T = transposed_matrix(H);
  EXPECT_TRUE(at::allclose(T.mm(T.t()), at::eye(n), 0, 1e-5));
  // Each block has entries +-1/sqrt(block), everything else is 0.
  const Tensor magnitudes = T.abs() * std::sqrt(static_cast<double>(H.block));
  const Tensor expected = at::kron(at::eye(n / H.block), at::ones({H.block, H.block}));
  EXPECT_TRUE(at::allclose(magnitudes, expected, 0, 1e-5));
}

TEST_P(HadamardOfSize, InverseAndRotatedWeightUndoIt) {
  const int64_t n = GetParam();
  const Hadamard H = make_hadamard(n);
  at::manual_seed(static_cast<uint64_t>(n));
  const Tensor x = at::randn({2, 3, n});
  const Tensor W = at::randn({5, n});
  EXPECT_TRUE(at::allclose(H.apply_inverse(H.apply(x)), x, 1e-4, 1e-5));
  const Tensor expected = x.matmul(W.t());
  EXPECT_TRUE(at::allclose(H.apply(x).matmul(H.apply(W).t()), expected, 1e-4, 1e-4));
}

TEST_P(HadamardOfSize, IsMadeAgainFromItsJson) {
  const Hadamard H = make_hadamard(GetParam());
  const Hadamard again = hadamard_from_json(parse_json(H.to_json().dump(), "test"), "test");
  EXPECT_EQ(again.size, H.size);
  EXPECT_EQ(again.block, H.block);
  EXPECT_EQ(again.construction, H.construction);
  EXPECT_TRUE(at::equal(again.left, H.left));
}

INSTANTIATE_TEST_SUITE_P(Sizes, HadamardOfSize,
                         ::testing::Values(1, 2, 4, 64, 256, 12, 24, 96, 192, 20, 40, 160, 320, 28, 56, 112,
                                           3, 9, 36, 50, 100, 144, 7));

TEST(MakeHadamard, TakesTheSmallestLeftFactorThatFits) {
  const std::vector<std::pair<int64_t, int64_t>> sizes = {{128, 1}, {48, 12}, {80, 20}, {160, 20}, {112, 28}};
  for (const auto& [n, m] : sizes) {
    const Hadamard H = make_hadamard(n);
    EXPECT_EQ(H.left.size(0), m) << n;
    EXPECT_EQ(H.block, n) << n;
  }
}

TEST(MakeHadamard, OtherSizesTakeTheLargestBlockThatDivides) {
  const std::vector<std::pair<int64_t, int64_t>> blocks = {{36, 12},  {50, 2}, {100, 20},
                                                           {144, 48}, {7, 1},  {84, 28}};
  for (const auto& [n, block] : blocks) EXPECT_EQ(make_hadamard(n).block, block) << n;
}

TEST(MakeHadamard, SizesBelowOneAreErrors) {
  EXPECT_ERROR(make_hadamard(0), ExitCode::kFailed, "not positive");
  EXPECT_ERROR(make_hadamard(-4), ExitCode::kFailed, "not positive");
}

TEST(HadamardFromJson, WhatCannotBeMadeIsAnError) {
  const char* const hostile[] = {
      R"x({})x",
      R"x({"size": 64, "block": 64, "m": 1, "construction": "magic"})x",
      R"x({"size": 64, "block": 64, "m": 12, "construction": "sylvester"})x",
      R"x({"size": 64, "block": 0, "m": 1, "construction": "sylvester"})x",
      R"x({"size": 64, "block": -64, "m": 1, "construction": "sylvester"})x",
      R"x({"size": 0, "block": 64, "m": 1, "construction": "sylvester"})x",
      R"x({"size": -64, "block": 64, "m": 1, "construction": "sylvester"})x",
      R"x({"size": 96, "block": 64, "m": 1, "construction": "sylvester"})x",
      R"x({"size": 24, "block": 24, "m": 1, "construction": "sylvester"})x",
      R"x({"size": 36, "block": 36, "m": 12, "construction": "paley1(q=11)"})x",
      R"x({"size": 12, "block": 12, "m": 0, "construction": "paley1(q=11)"})x",
  };
  for (const char* text : hostile) {
    EXPECT_ERROR(hadamard_from_json(parse_json(text, "test"), "S.transform"), ExitCode::kFailed,
                 "S.transform");
  }
  EXPECT_ERROR(hadamard_from_json(parse_json(R"([1])", "test"), "S.transform"), ExitCode::kFailed,
               "S.transform");
  EXPECT_ERROR(hadamard_from_json(parse_json(R"({"size": "64"})", "test"), "S.transform"), ExitCode::kFailed,
               "S.transform");
  EXPECT_ERROR(hadamard_from_json(
                   parse_json(R"({"size":4,"block":4,"m":1,"construction":"sylvester","extra":1})", "test"),
                   "S.transform"),
               ExitCode::kFailed, "extra");
}

}  // namespace
}  // namespace ptq
