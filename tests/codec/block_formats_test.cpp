// MXINT, NF4, and integer groups with plain scales.
#include <gtest/gtest.h>

#include <limits>

#include "ptq/codec/quantized_tensor.h"

namespace ptq {
namespace {

WeightScheme mxint(int bits, int64_t group = kMxintGroup) {
  WeightScheme scheme;
  scheme.bits = bits;
  scheme.granularity = Granularity::kGroup;
  scheme.group = group;
  scheme.format = NumberFormat::kMxint;
  return scheme;
}

WeightScheme nf4() {
  WeightScheme scheme = mxint(4, kNf4Group);
  scheme.format = NumberFormat::kNf4;
  return scheme;
}

WeightScheme plain(int bits, int64_t group, bool symmetric) {
  WeightScheme scheme;
  scheme.bits = bits;
  scheme.granularity = Granularity::kGroup;
  scheme.group = group;
  scheme.half_scales = true;
  scheme.symmetric = symmetric;
  scheme.plain_scales = true;
  return scheme;
}

Tensor row(std::initializer_list<float> values) {
  return at::tensor(std::vector<float>(values)).unsqueeze(0);
}

Tensor values_of(const Tensor& w, const WeightScheme& scheme) {
  return dequantize(round_to_nearest(w, scheme));
}

TEST(Mxint, RoundsTheSpecificationsExample) {
  const Tensor w = row({.11F, -.23F, .35F, .7F, -.99F, .05F, 0, 1.01F});
  EXPECT_TRUE(at::equal(values_of(w, mxint(4)), row({0, -.25F, .25F, .75F, -1, 0, 0, 1})));
  EXPECT_TRUE(at::equal(values_of(w, mxint(3)), row({0, 0, .5F, .5F, -1, 0, 0, 1})));
  EXPECT_TRUE(at::equal(values_of(w, mxint(2)), row({0, 0, 0, 1, -1, 0, 0, 1})));
  const Tensor high = row({1.99F, 1.9F, -1.8F, 1.7F, .125F, .1249F, .375F, -.626F});
  EXPECT_TRUE(at::equal(values_of(high, mxint(4)), row({1.75F, 1.75F, -1.75F, 1.75F, 0, 0, .5F, -.75F})));
}

TEST(Mxint, ScalesArePowersOfTwoAndBlocksDoNotMeet) {
  at::manual_seed(1);
  const Tensor w = at::randn({5, 80}) * at::exp2(at::arange(0, 80).floor_divide(32) * 7);
  const QuantizedTensor q = round_to_nearest(w, mxint(4));
  ASSERT_EQ(q.scale.sizes(), at::IntArrayRef({5, 3}));
  EXPECT_TRUE(at::equal(std::get<0>(at::frexp(q.scale)), at::full({5, 3}, .5F)));
  for (const int64_t first : {0, 32, 64}) {
    const Tensor part = w.slice(1, first, std::min<int64_t>(80, first + 32)).contiguous();
    EXPECT_TRUE(
        at::equal(q.codes.slice(1, first, first + part.size(1)), round_to_nearest(part, mxint(4)).codes));
  }
}

TEST(Mxint, EndsOfTheFloatRangeStayFinite) {
  const float tiny = std::numeric_limits<float>::denorm_min(), small = 0x1p-126F;
  EXPECT_TRUE(at::equal(values_of(row({0, -0.F, tiny, small / 2}), mxint(8)), at::zeros({1, 4})));
  EXPECT_TRUE(at::equal(values_of(row({small, -small}), mxint(8)), row({small, -small})));
  const float most = std::numeric_limits<float>::max();
  EXPECT_TRUE(at::equal(values_of(row({most, -most}), mxint(4)), row({0x1.cp127F, -0x1.cp127F})));
}

TEST(Nf4, EveryValueOfTheTableIsItsOwnAndZeroBlocksAreCode7) {
  const Tensor table =
      dequantize({at::arange(16).to(at::kChar).unsqueeze(0), at::full({1, 1}, 3.F), {}, nf4()});
  const QuantizedTensor q = round_to_nearest(table, nf4());
  EXPECT_TRUE(at::equal(q.codes, at::arange(16).to(at::kChar).unsqueeze(0)));
  EXPECT_EQ(q.scale.item<float>(), 3);
  const QuantizedTensor zero = round_to_nearest(at::zeros({2, 70}), nf4());
  EXPECT_TRUE(at::equal(zero.codes, at::full({2, 70}, 7, at::kChar)));
  EXPECT_TRUE(at::equal(dequantize(zero), at::zeros({2, 70})));
}

TEST(Nf4, TiesTakeTheLowerCode) {
  const Tensor table = dequantize({at::arange(16).to(at::kChar).unsqueeze(0), at::ones({1, 1}), {}, nf4()});
  const Tensor middle = (table.slice(1, 0, 15) + table.slice(1, 1, 16)) / 2;
  const Tensor w = at::cat({middle, at::ones({1, 1})}, 1);
  EXPECT_TRUE(
      at::equal(round_to_nearest(w, nf4()).codes.slice(1, 0, 15), at::arange(15).to(at::kChar).unsqueeze(0)));
}

TEST(Nf4, CannotBeAProductOfIntegers) {
  const QuantizedTensor q = round_to_nearest(at::ones({1, 4}), nf4());
  EXPECT_FALSE(q.scheme.is_linear());
  EXPECT_ANY_THROW(centered_codes(q));
}

TEST(PlainScales, TheLargestWeightIsTheLargestCode) {
  at::manual_seed(2);
  const Tensor w = at::randn({6, 64});
  for (const int bits : {2, 3, 4, 8}) {
    const QuantizedTensor q = round_to_nearest(w, plain(bits, 32, true));
    const Tensor amax = w.abs().reshape({6, 2, 32}).amax(2);
    EXPECT_TRUE(
        at::equal(q.scale, (amax / static_cast<double>(q.scheme.high())).to(at::kHalf).to(at::kFloat)));
    EXPECT_EQ(q.codes.abs().max().item<int64_t>(), q.scheme.high());
  }
}

TEST(PlainScales, GroupsTooSmallForFloat16AreZero) {
  for (const bool symmetric : {true, false}) {
    const QuantizedTensor q = round_to_nearest(at::full({2, 8}, 1e-9F), plain(4, 8, symmetric));
    EXPECT_EQ(q.scale.max().item<float>(), 0);
    EXPECT_EQ(dequantize(q).abs().max().item<float>(), 0);
  }
}

TEST(WeightScheme, BlockFormatsCountTheirScales) {
  EXPECT_DOUBLE_EQ(mxint(4).bits_per_weight(10, 64), 4.25);
  EXPECT_DOUBLE_EQ(mxint(3).bits_per_weight(10, 40), 3 + 8.0 * 2 / 40);
  EXPECT_DOUBLE_EQ(nf4().bits_per_weight(10, 128), 4.5);
  EXPECT_DOUBLE_EQ(plain(3, 64, false).bits_per_weight(10, 128), 3 + 24.0 / 64);
  EXPECT_EQ(mxint(2).low(), -1);
  EXPECT_EQ(mxint(2).high(), 1);
}

}  // namespace
}  // namespace ptq
