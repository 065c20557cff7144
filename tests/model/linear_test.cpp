// Integer products, linear layers in their three forms, and sites that make codes.
#include "ptq/model/linear.h"

#include <gtest/gtest.h>

#include "ptq/ops/ops.h"

namespace ptq {
namespace {

// The product of integer matrices a [rows, k] and b [n, k] in 64-bit integers.
Tensor integer_product(const Tensor& a, const Tensor& b) {
  return a.to(at::kLong).unsqueeze(1).mul(b.to(at::kLong).unsqueeze(0)).sum(2);
}

Tensor random_codes(at::IntArrayRef shape, int64_t low, int64_t high) {
  return at::randint(low, high + 1, shape, at::TensorOptions().dtype(at::kChar));
}

class ExactMatmul : public ::testing::TestWithParam<int64_t> {};

TEST_P(ExactMatmul, EqualsInt64Arithmetic) {
  const int64_t k = GetParam();
  at::manual_seed(static_cast<uint64_t>(k));
  const Tensor a = random_codes({3, k}, -128, 127);
  const Tensor b = random_codes({5, k}, -128, 127);
  const Tensor product = exact_matmul(a.to(at::kFloat), b.to(at::kFloat), 128, 128);
  EXPECT_TRUE(at::equal(product.to(at::kLong), integer_product(a, b)));
}

TEST_P(ExactMatmul, ExtremeCodesOfOneSignAreExact) {
  const int64_t k = GetParam();
  const Tensor lowest = at::full({2, k}, -128, at::kFloat);
  const Tensor odd = at::full({2, k}, -127, at::kFloat);
  const Tensor product = exact_matmul(lowest, odd, 128, 128);
  EXPECT_TRUE(product.to(at::kLong).eq(k * 128 * 127).all().item<bool>());
  EXPECT_TRUE(exact_matmul(odd, odd, 128, 128).to(at::kLong).eq(k * 127 * 127).all().item<bool>());
}

INSTANTIATE_TEST_SUITE_P(Lengths, ExactMatmul, ::testing::Values(1, 1023, 1024, 1025, 2048, 5001));

TEST(ExactMatmul, SmallWeightBoundsAllowLongerPieces) {
  at::manual_seed(1);
  const Tensor a = random_codes({2, 20000}, -128, 127);
  const Tensor b = random_codes({2, 20000}, -8, 7);
  EXPECT_TRUE(at::equal(exact_matmul(a.to(at::kFloat), b.to(at::kFloat), 128, 8).to(at::kLong),
                        integer_product(a, b)));
}

Linear random_linear(int64_t out, int64_t in, const WeightScheme* scheme) {
  Linear linear;
  linear.weight.value = at::randn({out, in});
  if (scheme != nullptr) linear.weight.set_quantized(round_to_nearest(linear.weight.value, *scheme));
  Weight bias;
  bias.value = at::randn({out});
  linear.bias = bias;
  return linear;
}

TEST(Linear, FloatWeightAndInputIsTheFloatProduct) {
  at::manual_seed(2);
  const Linear linear = random_linear(6, 40, nullptr);
  const Tensor x = at::randn({2, 3, 40});
  const Tensor expected = x.matmul(linear.weight.value.t()) + linear.bias->value;
  EXPECT_TRUE(at::allclose(linear({x, {}}), expected, 1e-5, 1e-5));
}

TEST(Linear, FloatWeightMultipliesTheValuesThatCodesStandFor) {
  at::manual_seed(3);
  const Linear linear = random_linear(6, 40, nullptr);
  const Activation x = ActivationQuantizer::fixed(0.05, 8)(at::randn({2, 3, 40}));
  const Tensor expected = (x.values * 0.05F).matmul(linear.weight.value.t()) + linear.bias->value;
  EXPECT_TRUE(at::allclose(linear(x), expected, 1e-5, 1e-5));
}

TEST(Linear, QuantizedWeightMultipliesFloatInputByItsValues) {
  at::manual_seed(4);
  const WeightScheme scheme{4, Granularity::kGroup, 16, true};
  const Linear linear = random_linear(6, 40, &scheme);
  const Tensor x = at::randn({2, 3, 40});
  const Tensor expected = x.matmul(dequantize(*linear.weight.quantized).t()) + linear.bias->value;
  EXPECT_TRUE(at::allclose(linear({x, {}}), expected, 1e-5, 1e-5));
}

// Element `group` of row `o` of a grid's scales or zero points.
template <typename T>
T grid_entry(const Tensor& grid, int64_t o, int64_t group) {
  return grid.numel() == 1 ? grid.item<T>() : grid[o][group].item<T>();
}

// The integer product computed element by element: exact int64 sums, then float32 multiplications in the
// order that the header states.
Tensor by_loops(const Linear& linear, const Activation& x) {
  const QuantizedTensor& q = *linear.weight.quantized;
  const int64_t in = q.codes.size(1), out = q.codes.size(0);
  const Tensor rows = x.values.flatten(0, -2).to(at::kLong);
  const int64_t step = q.scheme.granularity == Granularity::kGroup ? q.scheme.group : in;
  const bool one_scale = q.scale.numel() == 1 && x.scale.numel() == 1;
  const Tensor x_scale = x.scale.expand({x.values.size(0), x.values.size(1), 1}).flatten();
  Tensor y = at::empty({rows.size(0), out});
  for (int64_t i = 0; i < rows.size(0); ++i) {
    for (int64_t o = 0; o < out; ++o) {
      const auto a = x_scale[i].item<float>();
      float value = 0;
      for (int64_t begin = 0; begin < in; begin += step) {
        const int64_t end = std::min(in, begin + step);
        const int64_t zero = q.zero.defined() ? grid_entry<int64_t>(q.zero, o, begin / step) : 0;
        const Tensor codes = q.codes[o].slice(0, begin, end).to(at::kLong) - zero;
        const auto sum = (rows[i].slice(0, begin, end) * codes).sum().item<int64_t>();
        const auto w = grid_entry<float>(q.scale, o, begin / step);
        if (one_scale) {
          value = static_cast<float>(sum) * (a * w);
        } else {
          const float part = static_cast<float>(sum) * w;
          value = begin == 0 ? part : value + part;
        }
      }
      if (!one_scale) value *= a;
      y[i][o] = value + linear.bias->value[o].item<float>();
    }
  }
  return y.reshape({x.values.size(0), x.values.size(1), out});
}

struct IntegerForm {
  WeightScheme scheme;
  ActivationQuantizer quantizer;
};

class LinearWithCodes : public ::testing::TestWithParam<IntegerForm> {};

TEST_P(LinearWithCodes, IsBitEqualToInt64Loops) {
  at::manual_seed(5);
  const Linear linear = random_linear(4, 1500, &GetParam().scheme);
  const Activation x = GetParam().quantizer(at::randn({2, 2, 1500}));
  EXPECT_TRUE(at::equal(linear(x), by_loops(linear, x)));
}

// Sums far past 2^24, where float32 skips integers.
TEST_P(LinearWithCodes, LongRowsOfOneSignAreBitEqualToInt64Loops) {
  at::manual_seed(6);
  const auto positive = [](at::IntArrayRef shape) { return at::randn(shape).abs_().add_(1); };
  Linear linear = random_linear(3, 9001, nullptr);
  linear.weight.set_quantized(round_to_nearest(positive({3, 9001}), GetParam().scheme));
  const Activation x = GetParam().quantizer(positive({1, 2, 9001}));
  EXPECT_TRUE(at::equal(linear(x), by_loops(linear, x)));
}

TEST_P(LinearWithCodes, IsTheProductOfTheValuesThatCodesStandFor) {
  at::manual_seed(7);
  const Linear linear = random_linear(5, 300, &GetParam().scheme);
  const Activation x = GetParam().quantizer(at::randn({2, 3, 300}) + 0.4);
  const Tensor W = dequantize(*linear.weight.quantized).to(at::kDouble);
  const Tensor product = x.dequantize().to(at::kDouble).matmul(W.t()) + linear.bias->value;
  EXPECT_TRUE(at::allclose(linear(x).to(at::kDouble), product, 1e-5, 1e-4));
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

TEST(Site, StaticCodesAreRoundedHalfEvenAndClamped) {
  Site site;
  site.quantizer = ActivationQuantizer::fixed(0.5, 8);
  const Tensor x = at::tensor({0.25F, 0.75F, -0.75F, 1000.F, -1000.F, 0.6F}).reshape({1, 1, 6});
  const Activation y = site(x);
  EXPECT_TRUE(at::equal(y.values.flatten(), at::tensor({0.F, 2.F, -2.F, 127.F, -128.F, 1.F})));
  EXPECT_TRUE(at::equal(y.dequantize(), y.values * 0.5F));
}

TEST(Site, DynamicCodesHaveTheScaleOfTheirToken) {
  Site site;
  site.quantizer = ActivationQuantizer::per_token(8);
  const Tensor x = at::tensor({127.F, -1.F, 2.F, 254.F, 0.F, 0.F}).reshape({1, 3, 2});
  const Activation y = site(x);
  ASSERT_EQ(y.scale.sizes(), at::IntArrayRef({1, 3, 1}));
  EXPECT_TRUE(at::equal(y.values.flatten(), at::tensor({127.F, -1.F, 1.F, 127.F, 0.F, 0.F})));
  EXPECT_EQ(y.scale[0][0].item<float>(), 1);
  EXPECT_EQ(y.scale[0][1].item<float>(), 2);
  EXPECT_GT(y.scale[0][2].item<float>(), 0);
}

TEST(Site, WithoutAQuantizerPassesTheTransformedValuesThrough) {
  Site site;
  site.transform.stages = {make_hadamard(8)};
  at::manual_seed(6);
  const Tensor x = at::randn({1, 2, 8});
  const Activation y = site(x);
  EXPECT_TRUE(y.is_float());
  EXPECT_TRUE(at::equal(y.values, site.transform.apply(x)));
}

TEST(Site, ObserverSeesTransformedValuesBeforeRounding) {
  struct Recorder : Observer {
    void observe(const Tensor& x) override { seen = x.clone(); }
    Tensor seen;
  } recorder;
  Site site;
  site.transform.stages = {make_hadamard(8)};
  site.quantizer = ActivationQuantizer::fixed(1, 8);
  site.observer = &recorder;
  at::manual_seed(7);
  const Tensor x = at::randn({1, 2, 8});
  const Activation y = site(x);
  EXPECT_TRUE(at::equal(recorder.seen, site.transform.apply(x)));
  EXPECT_TRUE(at::equal(y.values, recorder.seen.round()));
}

}  // namespace
}  // namespace ptq
