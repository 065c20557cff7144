// Weights as codes, scales and zero points: rounding, granularities, 4-bit packing, SQNR.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "ptq/codec/quantized_tensor.h"

namespace ptq {
namespace {

WeightScheme scheme_of(int bits, Granularity granularity, int64_t group = 0, bool half_scales = false) {
  return {bits, granularity, group, half_scales};
}

WeightScheme with_zero_point(int bits, Granularity granularity, int64_t group = 0, bool half_scales = false) {
  return {bits, granularity, group, half_scales, /*symmetric=*/false};
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

TEST(RoundOnGrid, ValuesBeyondTheRangeAreClamped) {
  const Tensor w = row({100, -100});
  const Tensor codes = round_on_grid(w, {at::ones({1}), {}}, scheme_of(4, Granularity::kTensor)).codes;
  EXPECT_TRUE(at::equal(codes, at::tensor({7, -7}).to(at::kChar).unsqueeze(0)));
  const Tensor bytes = round_on_grid(w * 10, {at::ones({1}), {}}, {}).codes;
  EXPECT_TRUE(at::equal(bytes, at::tensor({127, -128}).to(at::kChar).unsqueeze(0)));
}

// One row whose codes were worked out by the specification: unsigned codes, as they are written there.
struct EdgeRow {
  const char* name;
  std::vector<float> x;
  int bits;
  float clip;
  float step;
  int zero;
  std::vector<int64_t> codes;
};

const std::vector<EdgeRow>& edge_rows() {
  static const std::vector<EdgeRow> rows = {
      {"constant", {3, 3, 3}, 4, 1.0F, 0.2F, 0, {15, 15, 15}},
      {"constant, clipped", {3, 3, 3}, 4, 0.9F, 0.17999999225139618F, 0, {15, 15, 15}},
      {"constant negative", {-0.25F, -0.25F}, 8, 1.0F, 0.0009803922148421407F, 255, {0, 0}},
      {"positive", {1, 2, 3.5F, 8, 4.25F, 6}, 4, 0.8F, 0.4266666769981384F, 0, {2, 5, 8, 15, 10, 14}},
      {"negative", {-1, -2, -3.5F, -8, -4.25F, -6}, 4, 1.0F, 0.5333333611488342F, 15, {13, 11, 8, 0, 7, 4}},
      {"zeros", {0, 0, 0}, 4, 1.0F, 1e-5F, 0, {0, 0, 0}},
      {"tiny", {1e-7F, -2e-7F, 3e-7F, 0}, 4, 1.0F, 3.333333253863202e-08F, 6, {9, 0, 15, 6}},
      {"one value", {0, 0, 5, 0}, 8, 0.8F, 0.01568627543747425F, 0, {0, 0, 255, 0}},
      {"ties",
       {-3.5F, -2.5F, -1.5F, -0.5F, 0, 0.5F, 1.5F, 2.5F, 3.5F, 4.5F, 5.5F, 11.5F},
       4,
       1.0F,
       1.0F,
       4,
       {0, 2, 2, 4, 4, 4, 6, 6, 8, 8, 10, 15}},
      {"outlier",
       {0.1F, -0.2F, 0.3F, -0.1F, 0.05F, 90},
       8,
       1.0F,
       0.35372549295425415F,
       1,
       {1, 0, 2, 1, 1, 255}},
  };
  return rows;
}

TEST(ZeroPoint, EdgeRowsHaveTheSpecificationsCodes) {
  for (const EdgeRow& edge : edge_rows()) {
    const Tensor w = at::tensor(edge.x).unsqueeze(0);
    const int64_t shift = int64_t{1} << (edge.bits - 1);
    const Tensor codes = (at::tensor(edge.codes) - shift).to(at::kChar).unsqueeze(0);
    // The row as a tensor, as a channel and as a group has the same range.
    for (const WeightScheme& scheme :
         {with_zero_point(edge.bits, Granularity::kTensor), with_zero_point(edge.bits, Granularity::kChannel),
          with_zero_point(edge.bits, Granularity::kGroup, 16)}) {
      const QuantizedTensor q = round_to_nearest(w, scheme, at::full({1}, edge.clip));
      EXPECT_EQ(q.scale.item<float>(), edge.step) << edge.name;
      EXPECT_EQ(q.zero.item<int64_t>(), edge.zero - shift) << edge.name;
      EXPECT_TRUE(at::equal(q.codes, codes)) << edge.name << q.codes;
      EXPECT_EQ(q.zero.sizes(), q.scale.sizes());
      EXPECT_EQ(q.zero.scalar_type(), at::kChar);
      const Tensor values = (codes.to(at::kFloat) + static_cast<double>(shift - edge.zero)) * edge.step;
      EXPECT_TRUE(at::equal(dequantize(q), values)) << edge.name;
    }
  }
}

TEST(ZeroPoint, ZeroKeepsItsValueAndSkewedRowsLoseLess) {
  at::manual_seed(7);
  Tensor w = at::randn({32, 64}).abs();
  w.select(1, 5).zero_();
  for (const auto granularity : {Granularity::kTensor, Granularity::kChannel, Granularity::kGroup}) {
    const QuantizedTensor q = round_to_nearest(w, with_zero_point(4, granularity, 16));
    EXPECT_EQ(dequantize(q).select(1, 5).abs().max().item<float>(), 0);
    EXPECT_GT(sqnr_db(w, dequantize(q)),
              sqnr_db(w, dequantize(round_to_nearest(w, scheme_of(4, granularity, 16)))) + 4);
  }
}

TEST(ZeroPoint, CenteredCodesAreIntegersWithinTheirBound) {
  at::manual_seed(8);
  const Tensor w = at::randn({6, 21}) + 2;
  for (const int bits : {2, 4, 8}) {
    for (const WeightScheme& scheme :
         {with_zero_point(bits, Granularity::kGroup, 8), with_zero_point(bits, Granularity::kChannel),
          scheme_of(bits, Granularity::kGroup, 8), scheme_of(bits, Granularity::kTensor)}) {
      const QuantizedTensor q = round_to_nearest(w, scheme);
      const Tensor centered = centered_codes(q);
      EXPECT_TRUE(at::equal(centered, centered.round()));
      EXPECT_LE(centered.abs().max().item<int64_t>(), centered_bound(scheme));
      EXPECT_EQ(q.zero.defined(), !scheme.symmetric);
    }
  }
  EXPECT_EQ(centered_bound(with_zero_point(8, Granularity::kTensor)), 255);
  EXPECT_EQ(centered_bound(scheme_of(8, Granularity::kTensor)), 128);
}

TEST(ZeroPoint, ShorterLastGroupIsThatGroupAlone) {
  at::manual_seed(9);
  const Tensor w = at::randn({5, 21}) + 1;
  const WeightScheme scheme = with_zero_point(4, Granularity::kGroup, 8);
  const QuantizedTensor q = round_to_nearest(w, scheme);
  const QuantizedTensor alone = round_to_nearest(w.slice(1, 16, 21), scheme);
  ASSERT_EQ(q.zero.sizes(), at::IntArrayRef({5, 3}));
  EXPECT_TRUE(at::equal(q.codes.slice(1, 16, 21), alone.codes));
  EXPECT_TRUE(at::equal(q.zero.slice(1, 2, 3), alone.zero));
  EXPECT_TRUE(at::equal(dequantize(q).slice(1, 16, 21), dequantize(alone)));
}

TEST(ZeroPoint, HalfScalesComeBeforeTheZeroPoint) {
  at::manual_seed(10);
  const Tensor w = at::randn({8, 64}) + 1;
  const QuantizedTensor q = round_to_nearest(w, with_zero_point(4, Granularity::kChannel, 0, true));
  EXPECT_TRUE(at::equal(q.scale, q.scale.to(at::kHalf).to(at::kFloat)));
  const Tensor zero = (-w.amin(1, true).clamp_max(0) / q.scale).round().clamp(0, 15) - 8;
  EXPECT_TRUE(at::equal(q.zero.to(at::kFloat), zero));
  const Tensor codes = ((w / q.scale).round() + zero).clamp(-8, 7);
  EXPECT_TRUE(at::equal(q.codes.to(at::kFloat), codes));
}

TEST(Clip, ShrinksTheRangeOfEachRowByItsOwnFactor) {
  at::manual_seed(11);
  const Tensor w = at::randn({4, 40});
  const Tensor clip = at::tensor({1.0F, 0.9F, 0.8F, 0.5F}).unsqueeze(1);
  for (const WeightScheme& scheme :
       {scheme_of(4, Granularity::kChannel), with_zero_point(4, Granularity::kChannel)}) {
    const WeightGrid full = weight_grid(w, scheme), clipped = weight_grid(w, scheme, clip);
    EXPECT_TRUE(at::allclose(clipped.scale, full.scale * clip, 1e-6, 0));
    EXPECT_TRUE(at::equal(clipped.scale[0], full.scale[0]));
    const QuantizedTensor q = round_to_nearest(w, scheme, clip);
    EXPECT_TRUE(at::equal(q.codes, round_on_grid(w, clipped, scheme).codes));
    // Values within the clipped range are off by at most half a step.
    const Tensor inside = (w.abs() <= w.amin(1, true).abs().minimum(w.amax(1, true)) * clip).to(at::kFloat);
    EXPECT_LE(((dequantize(q) - w).abs() / q.scale * inside).max().item<float>(), 0.51F);
  }
  const Tensor groups = at::rand({4, 5}) * 0.5 + 0.5;
  const WeightScheme scheme = scheme_of(4, Granularity::kGroup, 8);
  EXPECT_TRUE(
      at::allclose(weight_grid(w, scheme, groups).scale, weight_grid(w, scheme).scale * groups, 1e-6, 0));
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
  EXPECT_EQ(with_zero_point(4, Granularity::kChannel).low(), -8);
  EXPECT_EQ(with_zero_point(4, Granularity::kChannel).high(), 7);
  EXPECT_DOUBLE_EQ(with_zero_point(4, Granularity::kChannel).bits_per_weight(10, 80), 4.5);
}

// Schemes whose scales are float32, and MXINT.
std::vector<WeightScheme> schemes_of_any_size() {
  std::vector<WeightScheme> schemes = {{8, Granularity::kTensor},
                                       {4, Granularity::kChannel},
                                       {4, Granularity::kGroup, 16},
                                       with_zero_point(8, Granularity::kTensor),
                                       with_zero_point(4, Granularity::kChannel),
                                       with_zero_point(3, Granularity::kGroup, 16)};
  WeightScheme mxint{4, Granularity::kGroup, kMxintGroup};
  mxint.format = NumberFormat::kMxint;
  WeightScheme nf4{4, Granularity::kGroup, kNf4Group};
  nf4.format = NumberFormat::kNf4;
  WeightScheme plain{4, Granularity::kGroup, 16};
  plain.plain_scales = true;
  schemes.insert(schemes.end(), {mxint, nf4, plain});
  return schemes;
}

TEST(WeightGrid, PowersOfTwoChangeNoCode) {
  at::manual_seed(5);
  const Tensor w = at::randn({6, 64});
  for (const WeightScheme& scheme : schemes_of_any_size()) {
    const QuantizedTensor expected = round_to_nearest(w, scheme);
    for (const int exponent : {-100, -60, -20, -14, 14, 60, 100}) {
      const double factor = std::ldexp(1.0, exponent);
      const QuantizedTensor q = round_to_nearest(w * factor, scheme);
      EXPECT_TRUE(at::equal(q.codes, expected.codes)) << number_format_name(scheme.format) << exponent;
      EXPECT_TRUE(at::equal(q.scale, expected.scale * factor))
          << number_format_name(scheme.format) << exponent;
      EXPECT_TRUE(!q.zero.defined() || at::equal(q.zero, expected.zero));
    }
  }
}

TEST(WeightGrid, ZerosHaveTheAuthorsFloor) {
  const Tensor zeros = at::zeros({2, 32});
  EXPECT_FLOAT_EQ(weight_grid(zeros, {8, Granularity::kTensor}).scale.item<float>(), 1e-5F / 127);
  const WeightGrid channels = weight_grid(zeros, with_zero_point(4, Granularity::kChannel));
  EXPECT_TRUE(at::equal(channels.scale, at::full({2, 1}, 1e-5F)));
  EXPECT_TRUE(at::equal(channels.zero, at::full({2, 1}, -8, at::kChar)));
}

TEST(WeightGrid, ScalesBelowTheNormalRangeAreRaisedToIt) {
  const WeightGrid grid = weight_grid(at::full({1, 4}, 0x1p-130F), {8, Granularity::kTensor});
  EXPECT_EQ(grid.scale.item<float>(), 0x1p-126F);
}

TEST(HalfScales, HoldOrdinaryWeightsOnly) {
  at::manual_seed(5);
  const Tensor w = at::randn({6, 64}) * 0.05;
  WeightScheme scheme{4, Granularity::kGroup, 16};
  EXPECT_TRUE(half_scales_hold(w * 0x1p-20, scheme));  // it has none
  scheme.half_scales = true;
  EXPECT_TRUE(half_scales_hold(w, scheme));
  EXPECT_TRUE(half_scales_hold(at::zeros({6, 64}), scheme));
  EXPECT_FALSE(half_scales_hold(w * 0x1p-14, scheme));
  EXPECT_FALSE(half_scales_hold(w * 1e30, scheme));
  // Some dead groups in an ordinary layer take nothing from it.
  Tensor some = w.clone();
  some.slice(1, 0, 16).mul_(1e-9);
  EXPECT_TRUE(half_scales_hold(some, scheme));
}

TEST(Sqnr, OfTinyAndHugeValuesIsThatOfOrdinaryOnes) {
  at::manual_seed(6);
  const Tensor w = at::randn({6, 64}), approximation = w + at::randn({6, 64}) * 0.01;
  const double expected = sqnr_db(w, approximation);
  EXPECT_NEAR(expected, 40, 1);
  for (const double factor : {0x1p-110, 0x1p-80, 0x1p80, 0x1p110})
    EXPECT_EQ(sqnr_db(w * factor, approximation * factor), expected) << factor;
  EXPECT_EQ(sqnr_db(w, w), std::numeric_limits<double>::infinity());
  EXPECT_EQ(sqnr_db(at::zeros({2, 2}), at::ones({2, 2})), -std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isnan(sqnr_db(at::full({2, 2}, NAN), at::ones({2, 2}))));
}

}  // namespace
}  // namespace ptq
