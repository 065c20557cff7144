// Weights as codes and scales: rounding, granularities, 4-bit packing, SQNR.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "ptq/codec/quantized_tensor.h"

namespace ptq {
namespace {

WeightScheme scheme_of(int bits, Granularity granularity, int64_t group = 0, bool half_scales = false) {
  return {bits, granularity, group, half_scales};
}

Tensor row(std::initializer_list<float> values) {
  return at::tensor(std::vector<float>(values)).unsqueeze(0);
}

TEST(RoundToNearest, TiesGoToTheEvenCode) {
  // The largest value makes the scale exactly 0.25.
  const Tensor w = row({0.125F, 0.375F, 0.625F, -0.125F, -0.375F, -0.625F, 31.75F});
  const QuantizedTensor q = round_to_nearest(w, {});
  EXPECT_EQ(q.scale.item<float>(), 0.25F);
  EXPECT_TRUE(at::equal(q.codes, at::tensor({0, 2, 2, 0, -2, -2, 127}).to(at::kChar).unsqueeze(0)));
}

TEST(RoundToNearest, ZerosGiveZeroCodesAndTheSmallestScale) {
  for (const auto granularity : {Granularity::kTensor, Granularity::kChannel, Granularity::kGroup}) {
    const QuantizedTensor q = round_to_nearest(at::zeros({3, 20}), scheme_of(8, granularity, 8));
    EXPECT_EQ(q.codes.abs().max().item<int>(), 0);
    EXPECT_GT(q.scale.min().item<float>(), 0);
    EXPECT_EQ(dequantize(q).abs().max().item<float>(), 0);
  }
}

TEST(RoundToNearest, ErrorIsAtMostHalfAStepWhereNothingIsClamped) {
  at::manual_seed(1);
  const Tensor w = at::randn({16, 40});
  for (const int bits : {4, 8}) {
    for (const auto granularity : {Granularity::kTensor, Granularity::kChannel}) {
      const QuantizedTensor q = round_to_nearest(w, scheme_of(bits, granularity));
      const Tensor error = (dequantize(q) - w).abs() / q.scale;
      EXPECT_LE(error.max().item<float>(), 0.5F + 1e-4F);
      EXPECT_EQ(q.codes.abs().max().item<int>(), (1 << (bits - 1)) - 1);
    }
  }
}

TEST(RoundToNearest, GroupsUseAllCodesAndReachBothEnds) {
  at::manual_seed(2);
  const QuantizedTensor q = round_to_nearest(at::randn({64, 128}), scheme_of(4, Granularity::kGroup, 32));
  EXPECT_EQ(q.codes.min().item<int>(), -8);
  EXPECT_EQ(q.codes.max().item<int>(), 7);
}

TEST(RoundToNearest, LastGroupOfARowMayBeShorter) {
  at::manual_seed(3);
  const Tensor w = at::randn({5, 21});
  const QuantizedTensor q = round_to_nearest(w, scheme_of(4, Granularity::kGroup, 8));
  ASSERT_EQ(q.scale.sizes(), at::IntArrayRef({5, 3}));
  ASSERT_EQ(q.codes.sizes(), w.sizes());
  const Tensor expected = w.slice(1, 16, 21).abs().amax(1) * (2.0F / 15.0F);
  EXPECT_TRUE(at::allclose(q.scale.select(1, 2), expected, 1e-6, 0));
  // Its codes are those of the short group alone.
  const QuantizedTensor alone =
      round_to_nearest(w.slice(1, 16, 21).contiguous(), scheme_of(4, Granularity::kGroup, 8));
  EXPECT_TRUE(at::equal(q.codes.slice(1, 16, 21), alone.codes));
}

TEST(RoundToNearest, HalfScalesAreFloat16NumbersThatTheCodesUse) {
  at::manual_seed(4);
  const Tensor w = at::randn({4, 64});
  const QuantizedTensor q = round_to_nearest(w, scheme_of(4, Granularity::kGroup, 16, true));
  EXPECT_TRUE(at::equal(q.scale, q.scale.to(at::kHalf).to(at::kFloat)));
  const Tensor expected = (w / q.scale.repeat_interleave(16, 1)).round().clamp(-8, 7);
  EXPECT_TRUE(at::equal(q.codes.to(at::kFloat), expected));
}

TEST(RoundToNearest, ChannelScalesComeFromTheirOwnRow) {
  const QuantizedTensor q = round_to_nearest(at::stack({row({1, -127}).squeeze(0), row({2, 254}).squeeze(0)}),
                                             scheme_of(8, Granularity::kChannel));
  EXPECT_TRUE(at::equal(q.scale, at::tensor({1.F, 2.F}).reshape({2, 1})));
  EXPECT_TRUE(at::equal(q.codes, at::tensor({1, -127, 1, 127}).to(at::kChar).reshape({2, 2})));
}

TEST(RoundToNearest, ShapesOfVectorsAndConvolutionsAreKept) {
  at::manual_seed(5);
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{7}, {6, 1, 4}}) {
    const Tensor w = at::randn(shape);
    const QuantizedTensor q = round_to_nearest(w, {});
    EXPECT_EQ(q.codes.sizes(), w.sizes());
    EXPECT_EQ(dequantize(q).sizes(), w.sizes());
    EXPECT_GT(sqnr_db(w, dequantize(q)), 30);
  }
}

TEST(RoundToNearest, HalfPrecisionInputIsRoundedInFloat32) {
  at::manual_seed(6);
  const Tensor w = at::randn({8, 32}).to(at::kHalf);
  const QuantizedTensor half = round_to_nearest(w, {});
  const QuantizedTensor full = round_to_nearest(w.to(at::kFloat), {});
  EXPECT_TRUE(at::equal(half.codes, full.codes));
  EXPECT_TRUE(at::equal(half.scale, full.scale));
}

TEST(RoundWithScales, ValuesBeyondTheRangeAreClamped) {
  const Tensor w = row({100, -100});
  const Tensor codes = round_with_scales(w, at::ones({1}), scheme_of(4, Granularity::kTensor)).codes;
  EXPECT_TRUE(at::equal(codes, at::tensor({7, -7}).to(at::kChar).unsqueeze(0)));
  const Tensor bytes = round_with_scales(w * 10, at::ones({1}), {}).codes;
  EXPECT_TRUE(at::equal(bytes, at::tensor({127, -128}).to(at::kChar).unsqueeze(0)));
}

TEST(PackInt4, EveryPairOfCodesSurvivesAnOddOrEvenWidth) {
  std::vector<int64_t> all;
  for (int64_t low = -8; low < 8; ++low) {
    for (int64_t high = -8; high < 8; ++high) all.insert(all.end(), {low, high});
  }
  const Tensor codes = at::tensor(all).to(at::kChar);
  for (const int64_t in : {512, 128, 64, 2}) {
    const Tensor matrix = codes.reshape({-1, in});
    EXPECT_TRUE(at::equal(unpack_int4(pack_int4(matrix), in), matrix));
    const Tensor odd = matrix.slice(1, 0, in - 1).contiguous();
    EXPECT_TRUE(at::equal(unpack_int4(pack_int4(odd), in - 1), odd));
  }
}

TEST(PackInt4, EvenElementsAreTheLowNibbleAndTheUnusedNibbleIsZero) {
  const Tensor packed = pack_int4(at::tensor({-8, 7, 1}).to(at::kChar).unsqueeze(0));
  ASSERT_EQ(packed.scalar_type(), at::kByte);
  EXPECT_TRUE(at::equal(packed, at::tensor({0xf0, 0x09}).to(at::kByte).unsqueeze(0)));
}

TEST(Sqnr, EqualsTheDefinitionAndItsLimits) {
  const Tensor x = row({3, 4});
  EXPECT_NEAR(sqnr_db(x, row({3, 3.5F})), 20, 1e-5);
  EXPECT_NEAR(sqnr_db(x, at::zeros_like(x)), 0, 1e-9);
  EXPECT_EQ(sqnr_db(x, x), std::numeric_limits<double>::infinity());
  EXPECT_EQ(sqnr_db(at::zeros_like(x), x), -std::numeric_limits<double>::infinity());
}

TEST(WeightScheme, RangesAndCostsFollowBitsAndGranularity) {
  EXPECT_EQ(scheme_of(8, Granularity::kTensor).low(), -128);
  EXPECT_EQ(scheme_of(4, Granularity::kChannel).low(), -7);
  EXPECT_EQ(scheme_of(4, Granularity::kGroup, 32).low(), -8);
  EXPECT_EQ(scheme_of(4, Granularity::kGroup, 32).high(), 7);
  EXPECT_DOUBLE_EQ(scheme_of(4, Granularity::kGroup, 128, true).bits_per_weight(10, 256), 4.125);
  EXPECT_DOUBLE_EQ(scheme_of(4, Granularity::kGroup, 128, true).bits_per_weight(10, 192), 4 + 32.0 / 192);
  EXPECT_DOUBLE_EQ(scheme_of(8, Granularity::kChannel).bits_per_weight(10, 64), 8.5);
  EXPECT_DOUBLE_EQ(scheme_of(8, Granularity::kTensor).bits_per_weight(4, 8), 9);
}

}  // namespace
}  // namespace ptq
