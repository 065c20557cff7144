// How sites round, against plain loops: per token with and without a zero point, clipped, head by head.
#include <gtest/gtest.h>

#include <cmath>

#include "ptq/model/site.h"

namespace ptq {
namespace {

struct Rounded {
  std::vector<float> codes;  // less their zero point
  float scale = 0;
};

// Values that share a scale, one by one in float32 as the headers define it.
Rounded by_loop(const float* x, int64_t n, const ActivationQuantizer& quantizer) {
  const auto clip = static_cast<float>(quantizer.clip);
  float most = 0, least = 0;
  for (int64_t i = 0; i < n; ++i) {
    most = std::max(most, x[i]);
    least = std::min(least, x[i]);
  }
  Rounded rounded;
  float zero = 0, low = 0, high = 0;
  if (quantizer.symmetric) {
    high = static_cast<float>((1 << (quantizer.bits - 1)) - 1);
    low = -high - 1;
    rounded.scale = std::max(std::max(most, -least) * clip / high, 0x1p-126F);
  } else {
    high = static_cast<float>((1 << quantizer.bits) - 1);
    rounded.scale = std::max((clip * most - clip * least) / high, 0x1p-126F);
    zero = std::clamp(std::nearbyint(-(clip * least) / rounded.scale), 0.F, high);
  }
  for (int64_t i = 0; i < n; ++i) {
    rounded.codes.push_back(std::clamp(std::nearbyint(x[i] / rounded.scale) + zero, low, high) - zero);
  }
  return rounded;
}

// Tokens of one sign, of both, with an outlier, of zeros, of ties.
Tensor tokens(int64_t channels) {
  at::manual_seed(1);
  Tensor x = at::randn({3, 4, channels});
  x[0][1].abs_();
  x[0][2].abs_().neg_();
  x[0][3].zero_();
  x[1][0][channels / 2] = 300;
  x[1][1][1] = -300;
  x[1][2].mul_(1e-7);
  x[2][3].mul_(2).round_().div_(2);
  return x;
}

class DynamicQuantizer : public ::testing::TestWithParam<ActivationQuantizer> {};

TEST_P(DynamicQuantizer, EqualsThePlainLoop) {
  const ActivationQuantizer& quantizer = GetParam();
  const int64_t channels = 24, group = quantizer.group == 0 ? channels : quantizer.group;
  const Tensor x = tokens(channels);
  const Activation y = quantizer(x);
  ASSERT_EQ(y.codes.sizes(), x.sizes());
  EXPECT_EQ(y.codes.scalar_type(), quantizer.symmetric ? at::kChar : at::kByte);
  EXPECT_EQ(y.scheme, (ActivationScheme{quantizer.bits, quantizer.symmetric, true, quantizer.group}));
  if (quantizer.group == 0) {
    ASSERT_EQ(y.scale.sizes(), at::IntArrayRef({3, 4, 1}));
  } else {
    ASSERT_EQ(y.scale.sizes(), at::IntArrayRef({3, 4, channels / group, 1}));
  }
  EXPECT_EQ(y.zero.defined(), !quantizer.symmetric);
  if (y.zero.defined()) {
    EXPECT_EQ(y.zero.sizes(), y.scale.sizes());
    EXPECT_EQ(y.zero.scalar_type(), at::kByte);
  }
  EXPECT_GE(y.codes.min().item<int64_t>(), y.scheme.low());
  EXPECT_LE(y.codes.max().item<int64_t>(), y.scheme.high());
  const Tensor values = y.centered().contiguous(), scales = y.scale.contiguous();
  const Tensor floats = y.dequantize().contiguous();
  ASSERT_EQ(floats.sizes(), x.sizes());
  EXPECT_LE(values.abs().max().item<double>(), static_cast<double>(y.scheme.bound()));
  for (int64_t row = 0; row < x.numel() / group; ++row) {
    const Rounded expected = by_loop(x.const_data_ptr<float>() + row * group, group, quantizer);
    EXPECT_EQ(scales.const_data_ptr<float>()[row], expected.scale) << row;
    for (int64_t i = 0; i < group; ++i) {
      const float code = expected.codes[static_cast<size_t>(i)];
      EXPECT_EQ(values.const_data_ptr<float>()[row * group + i], code) << row << " " << i;
      EXPECT_EQ(floats.const_data_ptr<float>()[row * group + i], code * expected.scale) << row << " " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, DynamicQuantizer,
                         ::testing::Values(ActivationQuantizer::per_token(8),
                                           ActivationQuantizer::per_token(4, true, 0.75),
                                           ActivationQuantizer::per_token(4, false),
                                           ActivationQuantizer::per_token(4, false, 0.9),
                                           ActivationQuantizer::per_token(6, false, 0.5),
                                           ActivationQuantizer::per_token(8, false, 1),
                                           ActivationQuantizer::per_token(4, false, 0.9, 8),
                                           ActivationQuantizer::per_token(8, true, 1, 12),
                                           ActivationQuantizer::per_token(6, true, 0.8, 6),
                                           ActivationQuantizer::per_token(4, false, 1, 24)));

TEST(DynamicQuantizer, ErrorWithinTheRangeIsAtMostOneStep) {
  at::manual_seed(2);
  const Tensor x = at::randn({2, 5, 64}) + 0.7;
  for (const int bits : {4, 6, 8}) {
    for (const bool symmetric : {false, true}) {
      const Activation y = ActivationQuantizer::per_token(bits, symmetric)(x);
      // Half a step of rounding, and half of the zero point's.
      EXPECT_TRUE((y.dequantize() - x).abs().le(y.scale * 1.001).all().item<bool>()) << bits;
    }
  }
}

TEST(DynamicQuantizer, ZeroPointUsesAllCodesForValuesOfOneSign) {
  const Tensor x = at::arange(16).to(at::kFloat).reshape({1, 1, 16});
  EXPECT_TRUE(at::equal(ActivationQuantizer::per_token(4, false)(x).dequantize(), x));
  EXPECT_TRUE(at::equal(ActivationQuantizer::per_token(4, false)(x.neg()).dequantize(), x.neg()));
  EXPECT_FALSE(at::equal(ActivationQuantizer::per_token(4, true)(x).dequantize(), x));
}

TEST(DynamicQuantizer, ClipCutsTheEndsOfTheRange) {
  const Tensor x = at::tensor({-8.F, 0.F, 7.F}).reshape({1, 1, 3});
  EXPECT_TRUE(at::equal(ActivationQuantizer::per_token(4, false)(x).dequantize(), x));
  const Activation clipped = ActivationQuantizer::per_token(4, false, 0.5)(x);
  EXPECT_EQ(clipped.scale.item<float>(), 0.5F);
  EXPECT_TRUE(at::equal(clipped.dequantize(), at::tensor({-4.F, 0.F, 3.5F}).reshape({1, 1, 3})));
}

TEST(DynamicQuantizer, HeadsAreRoundedAsIfTheyWereTokens) {
  at::manual_seed(3);
  const Tensor x = at::randn({2, 3, 4, 8}) * at::tensor({1.F, 100.F, 0.01F, 5.F}).reshape({4, 1});
  const Activation heads = ActivationQuantizer::per_token(4, false, 0.9, 8)(x.flatten(2));
  const Activation alone = ActivationQuantizer::per_token(4, false, 0.9)(x.reshape({2, 12, 8}));
  EXPECT_TRUE(at::equal(heads.scale.reshape({2, 12, 1}), alone.scale));
  EXPECT_TRUE(at::equal(heads.dequantize().reshape({2, 12, 8}), alone.dequantize()));
}

TEST(DynamicQuantizer, RowsOfSamplesAreRoundedAsTheSiteDoes) {
  const Tensor x = tokens(24);
  for (const int64_t group : {0, 8}) {
    const auto quantizer = ActivationQuantizer::per_token(4, false, 0.9, group);
    const Tensor rows = quantizer(x.flatten(0, 1)).dequantize();
    EXPECT_TRUE(at::equal(rows, quantizer(x).dequantize().flatten(0, 1))) << group;
  }
}

TEST_P(DynamicQuantizer, PowersOfTwoChangeNoCode) {
  at::manual_seed(2);
  const Tensor x = at::randn({2, 3, 24});
  const Activation expected = GetParam()(x);
  for (const double factor : {0x1p-100, 0x1p-20, 0x1p20, 0x1p100}) {
    const Activation scaled = GetParam()(x * factor);
    EXPECT_TRUE(at::equal(scaled.codes, expected.codes)) << factor;
    EXPECT_TRUE(at::equal(scaled.centered(), expected.centered())) << factor;
    EXPECT_TRUE(at::equal(scaled.scale, expected.scale * factor)) << factor;
  }
}

TEST_P(DynamicQuantizer, NanOfATokenMakesItsValuesNanAndNoOthers) {
  at::manual_seed(4);
  Tensor x = at::randn({2, 3, 24});
  x[1][2][5] = NAN;
  const Tensor nan = GetParam()(x).dequantize().isnan();
  const int64_t group = GetParam().group == 0 ? 24 : GetParam().group;
  EXPECT_EQ(nan.sum().item<int64_t>(), group);
  EXPECT_TRUE(nan[1][2].slice(0, 5 / group * group, 5 / group * group + group).all().item<bool>());
}

TEST(StaticQuantizer, NanIsNotRoundedAway) {
  Tensor x = at::ones({1, 2, 3});
  x[0][1][2] = NAN;
  const Activation y = ActivationQuantizer::fixed(0.5, 8)(x);
  EXPECT_TRUE(y.scale.isnan().all().item<bool>());
  EXPECT_TRUE(y.dequantize()[0][1][2].isnan().item<bool>());
}

TEST(Quantizer, WithoutAKindHasNoScheme) {
  EXPECT_FALSE(ActivationQuantizer().scheme().has_value());
  EXPECT_EQ(ActivationQuantizer::fixed(0.5, 6).scheme(), ActivationScheme{6});
}

TEST(ActivationScheme, RangesAndBoundsOfCodes) {
  const ActivationScheme symmetric{4}, asymmetric{4, false, true};
  EXPECT_EQ(symmetric.low(), -8);
  EXPECT_EQ(symmetric.high(), 7);
  EXPECT_EQ(symmetric.bound(), 8);
  EXPECT_EQ(asymmetric.low(), 0);
  EXPECT_EQ(asymmetric.high(), 15);
  EXPECT_EQ(asymmetric.bound(), 15);
}

TEST(StaticQuantizer, CoversSmallMagnitudesAndHasTheAuthorsFloorForZero) {
  const ActivationQuantizer small = ActivationQuantizer::covering(0x1p-60, 8);
  EXPECT_FLOAT_EQ(small.scale.item<float>(), 0x1p-60F / 127);
  EXPECT_EQ(small(at::full({1, 1, 2}, 0x1p-60F)).codes[0][0][0].item<int64_t>(), 127);
  EXPECT_FLOAT_EQ(ActivationQuantizer::covering(0, 8).scale.item<float>(), 1e-5F / 127);
}

}  // namespace
}  // namespace ptq
