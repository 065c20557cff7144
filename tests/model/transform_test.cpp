// Transforms of sites: each kind of stage against its definition, and what all of them promise.
#include "ptq/model/transform.h"

#include <gtest/gtest.h>

#include <cmath>

#include "../base/expect_error.h"

namespace ptq {
namespace {

constexpr int64_t kChannels = 48;

Tensor orthogonal(int64_t n) {
  return std::get<0>(at::linalg_qr(at::randn({n, n}, at::kDouble))).to(at::kFloat);
}

Signs random_signs(int64_t n) {
  return {at::randint(0, 2, {n}).to(at::kFloat) * 2 - 1};
}

struct Named {
  const char* name;
  Transform transform;
};

// Each kind of stage alone, and chains of them, for 48 channels.
std::vector<Named> transforms() {
  at::manual_seed(1);
  const BlockRotation rotation{orthogonal(8)}, whole{orthogonal(kChannels)};
  const Permutation permutation{at::randperm(kChannels)};
  const Hadamard blocks = make_block_hadamard(kChannels, 12), hadamard = make_hadamard(kChannels);
  const Signs signs = random_signs(kChannels);
  return {{"none", {}},
          {"signs", {{signs}}},
          {"hadamard", {{hadamard}}},
          {"hadamard in blocks", {{blocks}}},
          {"rotation in blocks", {{rotation}}},
          {"rotation of all", {{whole}}},
          {"permutation", {{permutation}}},
          {"chain", {{signs, blocks, permutation, rotation}}},
          {"rotation twice", {{rotation, permutation, BlockRotation{orthogonal(8)}, permutation}}}};
}

TEST(Transform, InverseUndoesIt) {
  for (const auto& [name, T] : transforms()) {
    const Tensor x = at::randn({2, 3, kChannels});
    EXPECT_TRUE(at::allclose(T.apply_inverse(T.apply(x)), x, 1e-5, 1e-5)) << name;
    EXPECT_TRUE(at::allclose(T.apply(T.apply_inverse(x)), x, 1e-5, 1e-5)) << name;
    EXPECT_EQ(T.apply(x).sizes(), x.sizes()) << name;
  }
}

TEST(Transform, OnWeightAndInputLeavesTheirProductUnchanged) {
  for (const auto& [name, T] : transforms()) {
    const Tensor x = at::randn({2, 5, kChannels}), W = at::randn({7, kChannels});
    const Tensor before = at::matmul(x, W.t()), after = at::matmul(T.apply(x), T.apply(W).t());
    EXPECT_TRUE(at::allclose(after, before, 1e-4, 1e-4)) << name;
    EXPECT_EQ(T.empty(), at::equal(T.apply(x), x)) << name;
  }
}

TEST(Transform, IsTheOrthogonalMatrixThatItMakesOfTheIdentity) {
  for (const auto& [name, T] : transforms()) {
    const Tensor eye = at::eye(kChannels), matrix = T.apply(eye), x = at::randn({4, kChannels});
    EXPECT_TRUE(at::allclose(at::mm(matrix, matrix.t()), eye, 0, 1e-5)) << name;
    EXPECT_TRUE(at::allclose(T.apply(x), at::mm(x, matrix), 1e-4, 1e-5)) << name;
    EXPECT_TRUE(at::allclose(T.apply_inverse(eye), matrix.t(), 0, 1e-5)) << name;
  }
}

TEST(Transform, AppliesItsStagesInOrder) {
  const Permutation turn{at::tensor({1, 2, 0}, at::kLong)};
  const Signs signs{at::tensor({-1.F, 1.F, 1.F})};
  const Tensor x = at::tensor({10.F, 20.F, 30.F});
  EXPECT_TRUE(at::equal(Transform{{turn}}.apply(x), at::tensor({20.F, 30.F, 10.F})));
  EXPECT_TRUE(at::equal(Transform{{turn, signs}}.apply(x), at::tensor({-20.F, 30.F, 10.F})));
  EXPECT_TRUE(at::equal(Transform{{signs, turn}}.apply(x), at::tensor({20.F, 30.F, -10.F})));
}

TEST(Transform, RotationActsOnEveryBlockAlone) {
  at::manual_seed(2);
  const Tensor R = orthogonal(4), x = at::randn({3, 12});
  const Tensor y = Transform{{BlockRotation{R}}}.apply(x);
  for (int64_t row = 0; row < 3; ++row) {
    for (int64_t c = 0; c < 12; ++c) {
      double sum = 0;
      for (int64_t k = 0; k < 4; ++k)
        sum += x[row][c / 4 * 4 + k].item<double>() * R[k][c % 4].item<double>();
      EXPECT_NEAR(y[row][c].item<double>(), sum, 1e-5);
    }
  }
}

TEST(Transform, WithoutStagesIsTheTensorItself) {
  const Tensor x = at::ones({2, 3});
  EXPECT_TRUE(Transform{}.apply(x).is_same(x));
  EXPECT_TRUE(Transform{}.apply_inverse(x).is_same(x));
}

TEST(Transform, InputWithStridesIsTransformedAsItsCopy) {
  for (const auto& [name, T] : transforms()) {
    const Tensor x = at::randn({kChannels, 6}).t();
    const Tensor copy = x.contiguous();
    EXPECT_TRUE(at::allclose(T.apply(x), T.apply(copy), 1e-5, 1e-6)) << name;
    EXPECT_TRUE(at::allclose(T.apply_inverse(x), T.apply_inverse(copy), 1e-5, 1e-6)) << name;
  }
}

TEST(Transform, FitsTheChannelsOfEveryStage) {
  const TransformOp signs = random_signs(24), permutation = Permutation{at::randperm(24)};
  const TransformOp rotation = BlockRotation{at::eye(8)}, hadamard = make_block_hadamard(12, 4);
  struct Case {
    Transform transform;
    std::vector<int64_t> fitting;
    std::vector<int64_t> others;
  };
  const Case cases[] = {{{}, {1, 7, 24}, {}},
                        {{{signs}}, {24}, {12, 48, 23}},
                        {{{permutation}}, {24}, {12, 48, 25}},
                        {{{rotation}}, {8, 24, 48}, {4, 12, 20}},
                        {{{hadamard}}, {12, 24, 36}, {4, 6, 20}},
                        {{{rotation, hadamard}}, {24, 48}, {8, 12}},
                        {{{rotation, signs, hadamard, permutation}}, {24}, {48, 12}}};
  for (const Case& c : cases) {
    for (const int64_t n : c.fitting) EXPECT_TRUE(c.transform.fits(n)) << transform_text(c.transform) << n;
    for (const int64_t n : c.others) EXPECT_FALSE(c.transform.fits(n)) << transform_text(c.transform) << n;
  }
}

TEST(OrthogonalityError, IsHowFarTheWorstRotationIsOff) {
  Tensor sheared = at::eye(6), stretched = at::eye(6);
  sheared[2][4] = 0.01F;
  stretched[1][1] = 1.1F;
  const BlockRotation exact{at::eye(6)}, a{sheared}, b{stretched};
  EXPECT_EQ((Transform{{make_hadamard(12), random_signs(12)}}.orthogonality_error()), 0);
  EXPECT_EQ((Transform{{exact}}.orthogonality_error()), 0);
  EXPECT_NEAR((Transform{{exact, a}}.orthogonality_error()), 0.01, 1e-8);
  EXPECT_NEAR((Transform{{b}}.orthogonality_error()), 0.21, 1e-6);
  EXPECT_NEAR((Transform{{b, a, exact}}.orthogonality_error()), 0.21, 1e-6);
  at::manual_seed(3);
  EXPECT_LT((Transform{{BlockRotation{orthogonal(128)}}}.orthogonality_error()), 1e-6);
}

TEST(OrthogonalityError, OfARotationThatIsNotFiniteIsNoSmallNumber) {
  for (const float bad : {NAN, INFINITY}) {
    Tensor R = at::eye(4);
    R[1][2] = bad;
    const BlockRotation broken{R}, exact{at::eye(4)};
    EXPECT_FALSE((Transform{{broken}}.orthogonality_error() < 1e-3));
    EXPECT_FALSE((Transform{{exact, broken, exact}}.orthogonality_error() < 1e-3));
  }
}

TEST(TransformText, NamesStagesAndTheirBlocksInOrder) {
  EXPECT_EQ(transform_text({}), "");
  const Transform T{{random_signs(24), make_block_hadamard(24, 12), Permutation{at::randperm(24)},
                     BlockRotation{at::eye(8)}, make_block_hadamard(24, 8)}};
  EXPECT_EQ(transform_text(T), "signs, hadamard(12), permutation, rotation(8), hadamard(8)");
}

TEST(MakeBlockHadamard, RepeatsTheMatrixOfTheBlock) {
  for (const int64_t block : {1, 2, 12, 24, 64}) {
    const Hadamard H = make_block_hadamard(3 * block, block), one = make_hadamard(block);
    EXPECT_EQ(H.size, 3 * block);
    EXPECT_EQ(H.block, block);
    const Tensor x = at::randn({5, 3 * block});
    const Tensor by_block = one.apply(x.reshape({5, 3, block})).reshape({5, 3 * block});
    EXPECT_TRUE(at::allclose(H.apply(x), by_block, 1e-5, 1e-6)) << block;
    EXPECT_TRUE(at::allclose(H.apply_inverse(H.apply(x)), x, 1e-5, 1e-5)) << block;
  }
}

TEST(MakeBlockHadamard, SizesWithoutAMatrixAndBlocksThatDoNotDivideAreErrors) {
  EXPECT_ERROR(make_block_hadamard(22, 11), ExitCode::kUsage, "no Hadamard matrix of size 11");
  EXPECT_ERROR(make_block_hadamard(72, 36), ExitCode::kUsage, "no Hadamard matrix of size 36");
  EXPECT_ERROR(make_block_hadamard(24, 16), ExitCode::kUsage, "blocks of 16 do not divide 24");
  EXPECT_ERROR(make_block_hadamard(24, 0), ExitCode::kUsage, "blocks of 0");
  EXPECT_ERROR(make_block_hadamard(24, -8), ExitCode::kUsage, "blocks of -8");
  EXPECT_ERROR(make_block_hadamard(0, 8), ExitCode::kUsage, "do not divide 0");
}

}  // namespace
}  // namespace ptq
