// Linear layers in their three forms, prepared or not, and sites that make codes.
#include "ptq/model/linear.h"

#include <gtest/gtest.h>

namespace ptq {
namespace {

Linear random_linear(int64_t out, int64_t in, const WeightScheme* scheme) {
  Linear linear;
  linear.weight.set(at::randn({out, in}));
  if (scheme != nullptr) linear.weight.set(round_to_nearest(linear.weight.values(), *scheme));
  linear.bias = Weight("bias", Role::kBias, at::randn({out}), at::kFloat);
  return linear;
}

TEST(Linear, FloatWeightAndInputIsTheFloatProduct) {
  at::manual_seed(2);
  const Linear linear = random_linear(6, 40, nullptr);
  const Tensor x = at::randn({2, 3, 40});
  const Tensor expected = x.matmul(linear.weight.values().t()) + linear.bias->values();
  EXPECT_TRUE(at::allclose(linear({.values = x}), expected, 1e-5, 1e-5));
}

TEST(Linear, FloatWeightMultipliesTheValuesThatCodesStandFor) {
  at::manual_seed(3);
  const Linear linear = random_linear(6, 40, nullptr);
  const Activation x = ActivationQuantizer::fixed(0.05, 8)(at::randn({2, 3, 40}));
  const Tensor expected =
      (x.codes.to(at::kFloat) * 0.05F).matmul(linear.weight.values().t()) + linear.bias->values();
  EXPECT_TRUE(at::allclose(linear(x), expected, 1e-5, 1e-5));
}

TEST(Linear, QuantizedWeightMultipliesFloatInputByItsValues) {
  at::manual_seed(4);
  const WeightScheme scheme{4, Granularity::kGroup, 16, true};
  const Linear linear = random_linear(6, 40, &scheme);
  const Tensor x = at::randn({2, 3, 40});
  const Tensor expected = x.matmul(dequantize(*linear.weight.quantized()).t()) + linear.bias->values();
  EXPECT_TRUE(at::allclose(linear({.values = x}), expected, 1e-5, 1e-5));
}

TEST(Linear, PreparedForFloatsGivesTheBitsOfUnpreparedUntilItsCodesAreReplaced) {
  at::manual_seed(10);
  const WeightScheme schemes[] = {{4, Granularity::kGroup, 16, true},
                                  {4, Granularity::kGroup, kNf4Group, false, true, NumberFormat::kNf4}};
  for (const WeightScheme& scheme : schemes) {
    const Linear linear = random_linear(6, 128, &scheme);
    Linear prepared = linear;
    prepared.prepare({});
    const Activation x{.values = at::randn({2, 3, 128})};
    EXPECT_TRUE(at::equal(prepared(x), linear(x)));
    const QuantizedTensor other = round_to_nearest(at::randn({6, 128}), scheme);
    prepared.weight.set(other);
    const Tensor expected = x.values.matmul(dequantize(other).t()) + linear.bias->values();
    EXPECT_TRUE(at::allclose(prepared(x), expected, 1e-4, 1e-4));
  }
}

TEST(Linear, CopyOfAPreparedOneIsRoundedByItself) {
  at::manual_seed(11);
  const WeightScheme scheme{8, Granularity::kChannel};
  Linear original = random_linear(6, 40, &scheme);
  const ActivationQuantizer quantizer = ActivationQuantizer::per_token(8);
  original.prepare(quantizer.scheme());
  const Activation x = quantizer(at::randn({2, 3, 40}));
  const Tensor before = original(x);
  Linear copy = original;
  copy.weight.set(round_to_nearest(at::randn({6, 40}), scheme));
  copy.prepare(quantizer.scheme());
  EXPECT_FALSE(at::equal(copy(x), before));
  EXPECT_TRUE(at::equal(original(x), before));
}

TEST(Linear, PreparingFloatsOrCodesWithoutValuesDoesNothing) {
  at::manual_seed(12);
  const Tensor x = at::randn({2, 3, 40});
  Linear floats = random_linear(6, 40, nullptr);
  const Tensor before = floats({.values = x});
  floats.prepare({});
  floats.prepare(ActivationScheme{});
  EXPECT_TRUE(at::equal(floats({.values = x}), before));
  Linear meta;
  QuantizedTensor q = round_to_nearest(at::randn({6, 40}), {8, Granularity::kChannel});
  q.codes = q.codes.to(at::kMeta);
  meta.weight.set(q);
  EXPECT_NO_THROW(meta.prepare({}));
  EXPECT_NO_THROW(meta.prepare(ActivationScheme{}));
}

struct IntegerForm {
  WeightScheme scheme;
  ActivationQuantizer quantizer;
};

class LinearWithCodes : public ::testing::TestWithParam<IntegerForm> {};

// The table's rows are compared with int64 loops in tests/ops.
TEST_P(LinearWithCodes, IsTheReferenceProductPlusTheBiasToTheBit) {
  at::manual_seed(5);
  const Linear linear = random_linear(4, 1500, &GetParam().scheme);
  const Activation x = GetParam().quantizer(at::randn({2, 2, 1500}));
  const Tensor product = integer_products().back().prepare(*linear.weight.quantized())->product(x);
  EXPECT_TRUE(at::equal(linear(x), product + linear.bias->values()));
}

TEST_P(LinearWithCodes, IsTheProductOfTheValuesThatCodesStandFor) {
  at::manual_seed(7);
  const Linear linear = random_linear(5, 300, &GetParam().scheme);
  const Activation x = GetParam().quantizer(at::randn({2, 3, 300}) + 0.4);
  const Tensor W = dequantize(*linear.weight.quantized()).to(at::kDouble);
  const Tensor product = x.dequantize().to(at::kDouble).matmul(W.t()) + linear.bias->values();
  EXPECT_TRUE(at::allclose(linear(x).to(at::kDouble), product, 1e-5, 1e-4));
}

TEST_P(LinearWithCodes, PreparedGivesTheBitsOfUnprepared) {
  at::manual_seed(8);
  for (const bool corrected : {false, true}) {
    Linear linear = random_linear(5, 300, &GetParam().scheme);
    if (corrected) linear.correction = make_low_rank(at::randn({2, 300}), at::randn({5, 2}), at::kFloat);
    Linear prepared = linear;
    prepared.prepare(GetParam().quantizer.scheme());
    const Tensor values = at::randn({2, 3, 300});
    const Activation x = GetParam().quantizer(values);
    EXPECT_TRUE(at::equal(prepared(x), linear(x)));
    EXPECT_TRUE(at::equal(prepared(x), linear(x)));  // once more
    // Inputs of another form than it was prepared for.
    EXPECT_TRUE(at::equal(prepared({.values = values}), linear({.values = values})));
  }
}

TEST_P(LinearWithCodes, FormPreparedForOtherCodesIsNotUsed) {
  at::manual_seed(9);
  Linear linear = random_linear(5, 300, &GetParam().scheme);
  const Tensor values = at::randn({2, 3, 300});
  const Activation x = GetParam().quantizer(values);
  linear.prepare(GetParam().quantizer.scheme());
  const Tensor before = linear(x);
  linear.weight.set(round_to_nearest(at::randn({5, 300}), GetParam().scheme));
  Linear fresh = linear;
  fresh.prepare(GetParam().quantizer.scheme());
  Linear never;
  never.weight = linear.weight;
  never.bias = linear.bias;
  EXPECT_FALSE(at::equal(linear(x), before));
  EXPECT_TRUE(at::equal(linear(x), never(x)));
  EXPECT_TRUE(at::equal(fresh(x), never(x)));
  // Floats again.
  linear.weight.set(at::randn({5, 300}));
  EXPECT_TRUE(at::allclose(linear({.values = values}),
                           values.matmul(linear.weight.values().t()) + linear.bias->values(), 1e-4, 1e-4));
}

const ActivationQuantizer kStatic = ActivationQuantizer::fixed(0.02, 8);

INSTANTIATE_TEST_SUITE_P(
    Forms, LinearWithCodes,
    ::testing::Values(IntegerForm{{8, Granularity::kTensor}, kStatic},
                      IntegerForm{{8, Granularity::kTensor}, ActivationQuantizer::per_token(8)},
                      IntegerForm{{8, Granularity::kChannel}, kStatic},
                      IntegerForm{{8, Granularity::kChannel}, ActivationQuantizer::per_token(8)},
                      IntegerForm{{4, Granularity::kGroup, 128, true}, kStatic},
                      IntegerForm{{4, Granularity::kGroup, 1100, false}, ActivationQuantizer::per_token(8)}));

// Zero points on both sides.
INSTANTIATE_TEST_SUITE_P(
    Asymmetric, LinearWithCodes,
    ::testing::Values(
        IntegerForm{{4, Granularity::kChannel, 0, false, false},
                    ActivationQuantizer::per_token(4, false, 0.9)},
        IntegerForm{{6, Granularity::kChannel, 0, false, false}, ActivationQuantizer::per_token(6, false)},
        IntegerForm{{8, Granularity::kChannel, 0, false, false}, ActivationQuantizer::per_token(8, false)},
        IntegerForm{{8, Granularity::kTensor, 0, false, false}, ActivationQuantizer::per_token(8, false)},
        IntegerForm{{8, Granularity::kTensor, 0, false, false}, kStatic},
        IntegerForm{{4, Granularity::kGroup, 128, true, false}, ActivationQuantizer::per_token(4, false)},
        IntegerForm{{8, Granularity::kGroup, 1100, true, false}, ActivationQuantizer::per_token(8, false)},
        IntegerForm{{4, Granularity::kChannel, 0, false, true}, ActivationQuantizer::per_token(8, false)}));

Tensor codes_of(const std::vector<int64_t>& values) {
  return at::tensor(at::ArrayRef<int64_t>(values)).to(at::kChar);
}

TEST(Site, StaticCodesAreRoundedHalfEvenAndClamped) {
  Site site;
  site.quantizer = ActivationQuantizer::fixed(0.5, 8);
  const Tensor x = at::tensor({0.25F, 0.75F, -0.75F, 1000.F, -1000.F, 0.6F}).reshape({1, 1, 6});
  const Activation y = site(x, nullptr);
  EXPECT_TRUE(y.in_codes());
  EXPECT_EQ(y.scheme, ActivationScheme{});
  EXPECT_TRUE(at::equal(y.codes.flatten(), codes_of({0, 2, -2, 127, -128, 1})));
  EXPECT_TRUE(at::equal(y.centered(), y.codes.to(at::kFloat)));
  EXPECT_TRUE(at::equal(y.dequantize(), y.centered() * 0.5F));
}

TEST(Site, DynamicCodesHaveTheScaleOfTheirToken) {
  Site site;
  site.quantizer = ActivationQuantizer::per_token(8);
  const Tensor x = at::tensor({127.F, -1.F, 2.F, 254.F, 0.F, 0.F}).reshape({1, 3, 2});
  const Activation y = site(x, nullptr);
  EXPECT_EQ(y.scheme, (ActivationScheme{.per_token = true}));
  ASSERT_EQ(y.scale.sizes(), at::IntArrayRef({1, 3, 1}));
  EXPECT_TRUE(at::equal(y.codes.flatten(), codes_of({127, -1, 1, 127, 0, 0})));
  EXPECT_EQ(y.scale[0][0].item<float>(), 1);
  EXPECT_EQ(y.scale[0][1].item<float>(), 2);
  EXPECT_GT(y.scale[0][2].item<float>(), 0);
}

TEST(Site, WithoutAQuantizerPassesTheTransformedValuesThrough) {
  Site site;
  site.transform.stages = {make_hadamard(8)};
  at::manual_seed(6);
  const Tensor x = at::randn({1, 2, 8});
  const Activation y = site(x, nullptr);
  EXPECT_FALSE(y.in_codes());
  EXPECT_TRUE(at::equal(y.values, site.transform.apply(x)));
  EXPECT_TRUE(at::equal(y.dequantize(), y.values));
}

TEST(Site, ObserverSeesTransformedValuesBeforeRounding) {
  struct Recorder : Observer {
    void observe(const Site& at_site, const Tensor& x) override {
      where = &at_site;
      seen = x.clone();
    }
    const Site* where = nullptr;
    Tensor seen;
  } recorder;
  Site site;
  site.transform.stages = {make_hadamard(8)};
  site.quantizer = ActivationQuantizer::fixed(1, 8);
  at::manual_seed(7);
  const Tensor x = at::randn({1, 2, 8});
  const Activation y = site(x, &recorder);
  EXPECT_EQ(recorder.where, &site);
  EXPECT_TRUE(at::equal(recorder.seen, site.transform.apply(x)));
  EXPECT_TRUE(at::equal(y.centered(), recorder.seen.round()));
}

}  // namespace
}  // namespace ptq
