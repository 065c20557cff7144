// Every row of the table of integer products against int64 loops and against the reference, and exact
// products of integers that floats hold.
#include "ptq/ops/integer_products.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <tuple>

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

struct Schemes {
  WeightScheme weight;
  ActivationScheme activation;
};

// x in codes, with a scale that fits it.
Activation rounded(const Tensor& x, const ActivationScheme& scheme) {
  Activation y;
  y.scheme = scheme;
  if (!scheme.symmetric) {
    std::tie(y.codes, y.zero, y.scale) = ops::quantize_asymmetric(x, scheme.bits, 0.9);
    return y;
  }
  const Tensor amax = scheme.per_token ? ops::abs_max_rows(x) : x.abs().max().reshape({1});
  const Tensor scale = amax / static_cast<double>(scheme.high());
  std::tie(y.codes, y.scale) = ops::quantize_codes(x, scale, scheme.low(), scheme.high());
  return y;
}

// Element `group` of row `o` of a grid's scales or zero points.
template <typename T>
T grid_entry(const Tensor& grid, int64_t o, int64_t group) {
  return grid.numel() == 1 ? grid.item<T>() : grid[o][group].item<T>();
}

// The product element by element: exact int64 sums, then float32 multiplications in the order that the header
// states.
Tensor by_loops(const QuantizedTensor& q, const Activation& x) {
  const int64_t in = q.codes.size(1), out = q.codes.size(0);
  const Tensor centered =
      x.zero.defined() ? x.codes.to(at::kLong) - x.zero.to(at::kLong) : x.codes.to(at::kLong);
  const Tensor rows = centered.flatten(0, -2);
  const int64_t step = q.scheme.granularity == Granularity::kGroup ? q.scheme.group : in;
  const bool one_scale = q.scale.numel() == 1 && !x.scheme.per_token;
  const Tensor x_scale = x.scale.expand({x.codes.size(0), x.codes.size(1), 1}).flatten();
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
      y[i][o] = one_scale ? value : value * a;
    }
  }
  return y.reshape({x.codes.size(0), x.codes.size(1), out});
}

// What each row of the table that supports both schemes makes of them must be `expected`.
void expect_of_every_row(const QuantizedTensor& q, const Activation& x, const Tensor& expected) {
  ASSERT_TRUE(integer_products().back().supports(q.scheme, x.scheme));
  for (const IntegerProduct& row : integer_products()) {
    if (!row.supports(q.scheme, x.scheme)) continue;
    const Tensor y = row.prepare(q)->product(x);
    EXPECT_EQ(y.scalar_type(), at::kFloat) << row.name;
    EXPECT_TRUE(at::equal(y, expected)) << row.name;
  }
}

class IntegerProducts : public ::testing::TestWithParam<Schemes> {};

TEST_P(IntegerProducts, EveryRowIsBitEqualToInt64Loops) {
  at::manual_seed(5);
  const QuantizedTensor q = round_to_nearest(at::randn({4, 1500}), GetParam().weight);
  const Activation x = rounded(at::randn({2, 2, 1500}), GetParam().activation);
  expect_of_every_row(q, x, by_loops(q, x));
}

// Sums far past 2^24, where float32 skips integers.
TEST_P(IntegerProducts, LongRowsOfOneSignAreBitEqualToInt64LoopsInEveryRow) {
  at::manual_seed(6);
  const auto positive = [](at::IntArrayRef shape) { return at::randn(shape).abs_().add_(1); };
  const QuantizedTensor q = round_to_nearest(positive({3, 9001}), GetParam().weight);
  const Activation x = rounded(positive({1, 2, 9001}), GetParam().activation);
  expect_of_every_row(q, x, by_loops(q, x));
}

TEST_P(IntegerProducts, EveryRowIsBitEqualToTheReferenceAtAnyShape) {
  at::manual_seed(7);
  for (const auto& [tokens, out, in] : std::vector<std::array<int64_t, 3>>{{1, 1, 1},
                                                                           {1, 1, 33},
                                                                           {1, 130, 64},
                                                                           {7, 5, 1024},
                                                                           {33, 17, 1025},
                                                                           {64, 96, 576},
                                                                           {130, 31, 100}}) {
    SCOPED_TRACE(std::to_string(tokens) + " x " + std::to_string(out) + " x " + std::to_string(in));
    const QuantizedTensor q = round_to_nearest(at::randn({out, in}), GetParam().weight);
    const Activation x = rounded(at::randn({1, tokens, in}) + 0.3, GetParam().activation);
    expect_of_every_row(q, x, integer_products().back().prepare(q)->product(x));
  }
}

TEST_P(IntegerProducts, AnyNumberOfTokensIsBitEqualToTheReferenceInEveryRow) {
  at::manual_seed(13);
  const QuantizedTensor q = round_to_nearest(at::randn({37, 203}), GetParam().weight);
  const auto reference = integer_products().back().prepare(q);
  for (int64_t tokens = 1; tokens <= 33; ++tokens) {
    SCOPED_TRACE(tokens);
    const Activation x = rounded(at::randn({1, tokens, 203}) + 0.3, GetParam().activation);
    expect_of_every_row(q, x, reference->product(x));
  }
}

TEST_P(IntegerProducts, EveryRowIsBitEqualToTheReferenceOfFewInputsAndOutputs) {
  at::manual_seed(9);
  for (int64_t in = 1; in <= 17; ++in) {
    for (const int64_t out : {1, 2, 15, 16, 17}) {
      SCOPED_TRACE(std::to_string(out) + " x " + std::to_string(in));
      const QuantizedTensor q = round_to_nearest(at::randn({out, in}), GetParam().weight);
      const Activation x = rounded(at::randn({2, 3, in}) + 0.3, GetParam().activation);
      expect_of_every_row(q, x, integer_products().back().prepare(q)->product(x));
    }
  }
}

// Codes of one value each, and zero points at the other end.
TEST_P(IntegerProducts, ExtremeCodesAreBitEqualToInt64LoopsInEveryRow) {
  at::manual_seed(10);
  const auto& [weight, activation] = GetParam();
  for (const int64_t in : {5, 8, 132}) {
    for (const bool high : {false, true}) {
      QuantizedTensor q = round_to_nearest(at::randn({3, in}), weight);
      q.codes.fill_(high ? weight.high() : weight.low());
      if (q.zero.defined()) q.zero.fill_(high ? weight.low() : weight.high());
      Activation x = rounded(at::randn({1, 2, in}), activation);
      for (const int64_t code : {activation.low(), activation.high()}) {
        x.codes.fill_(code);
        if (x.zero.defined()) x.zero.fill_(code == 0 ? activation.high() : 0);
        expect_of_every_row(q, x, by_loops(q, x));
      }
    }
  }
}

TEST_P(IntegerProducts, RowsInPartsAndOtherLayoutsGiveTheBitsOfTheWhole) {
  at::manual_seed(11);
  QuantizedTensor q = round_to_nearest(at::randn({70, 260}), GetParam().weight);
  const Activation x = rounded(at::randn({1, 13, 260}), GetParam().activation);
  const Tensor whole = find_integer_product(q.scheme, x.scheme)->prepare(q)->product(x);
  Activation part = x;
  part.codes = x.codes.slice(1, 3, 8);
  if (x.scale.numel() > 1) part.scale = x.scale.slice(1, 3, 8);
  if (x.zero.defined()) part.zero = x.zero.slice(1, 3, 8);
  q.codes = q.codes.t().contiguous().t();
  part.codes = part.codes.transpose(1, 2).contiguous().transpose(1, 2);
  expect_of_every_row(q, part, whole.slice(1, 3, 8));
}

TEST_P(IntegerProducts, NoRowsHaveNoOutputs) {
  const QuantizedTensor q = round_to_nearest(at::ones({5, 40}), GetParam().weight);
  Activation x = rounded(at::ones({1, 2, 40}), GetParam().activation);
  x.codes = x.codes.slice(1, 0, 0);
  if (x.scale.numel() > 1) x.scale = x.scale.slice(1, 0, 0);
  if (x.zero.defined()) x.zero = x.zero.slice(1, 0, 0);
  const Tensor y = find_integer_product(q.scheme, x.scheme)->prepare(q)->product(x);
  EXPECT_EQ(y.sizes(), (std::vector<int64_t>{1, 0, 5}));
}

TEST_P(IntegerProducts, NanOfATokenReachesItsOutputsInEveryRow) {
  at::manual_seed(8);
  const QuantizedTensor q = round_to_nearest(at::randn({5, 40}), GetParam().weight);
  Tensor values = at::randn({1, 3, 40});
  values[0][1][7] = NAN;
  Activation x;
  if (GetParam().activation.per_token) {
    x = rounded(values, GetParam().activation);
  } else {  // a scale that does not come from the values
    x.scheme = GetParam().activation;
    std::tie(x.codes, x.scale) =
        ops::quantize_codes(values, at::full({1}, 0.1F), x.scheme.low(), x.scheme.high());
  }
  for (const IntegerProduct& row : integer_products()) {
    if (!row.supports(q.scheme, x.scheme)) continue;
    const Tensor y = row.prepare(q)->product(x);
    EXPECT_TRUE(y[0][1].isnan().all().item<bool>()) << row.name;
    if (x.scheme.per_token) {
      EXPECT_FALSE(y[0][0].isnan().any().item<bool>()) << row.name;
      EXPECT_FALSE(y[0][2].isnan().any().item<bool>()) << row.name;
    }
  }
}

TEST_P(IntegerProducts, TheFirstRowThatSupportsBothIsFound) {
  const auto& [weight, activation] = GetParam();
  for (const IntegerProduct& row : integer_products()) {
    if (!row.supports(weight, activation)) continue;
    EXPECT_EQ(find_integer_product(weight, activation), &row);
    return;
  }
  FAIL() << "no row supports it";
}

constexpr ActivationScheme kStatic = {};
constexpr ActivationScheme kPerToken = {.per_token = true};
constexpr ActivationScheme asymmetric(int bits) {
  return {bits, /*symmetric=*/false, /*per_token=*/true};
}
constexpr WeightScheme mxint(int bits) {
  return {bits, Granularity::kGroup, kMxintGroup, false, true, NumberFormat::kMxint};
}

INSTANTIATE_TEST_SUITE_P(Forms, IntegerProducts,
                         ::testing::Values(Schemes{{8, Granularity::kTensor}, kStatic},
                                           Schemes{{8, Granularity::kTensor}, kPerToken},
                                           Schemes{{8, Granularity::kChannel}, kStatic},
                                           Schemes{{8, Granularity::kChannel}, kPerToken},
                                           Schemes{{4, Granularity::kChannel},
                                                   {.bits = 4, .per_token = true}},
                                           Schemes{{4, Granularity::kTensor}, {.bits = 4}},
                                           Schemes{{4, Granularity::kGroup, 128, true}, kStatic},
                                           Schemes{{4, Granularity::kGroup, 1100, false}, kPerToken},
                                           Schemes{{2, Granularity::kGroup, 8, true}, kPerToken},
                                           Schemes{{3, Granularity::kGroup, 6, true}, kPerToken}));

// Zero points on both sides.
INSTANTIATE_TEST_SUITE_P(
    Asymmetric, IntegerProducts,
    ::testing::Values(Schemes{{4, Granularity::kChannel, 0, false, false}, asymmetric(4)},
                      Schemes{{6, Granularity::kChannel, 0, false, false}, asymmetric(6)},
                      Schemes{{8, Granularity::kChannel, 0, false, false}, asymmetric(8)},
                      Schemes{{8, Granularity::kTensor, 0, false, false}, asymmetric(8)},
                      Schemes{{8, Granularity::kTensor, 0, false, false}, kStatic},
                      Schemes{{4, Granularity::kGroup, 128, true, false}, asymmetric(4)},
                      Schemes{{8, Granularity::kGroup, 1100, true, false}, asymmetric(8)},
                      Schemes{{4, Granularity::kChannel, 0, false, true}, asymmetric(8)}));

// Up to 4 bits, with groups that are and are not a whole number of bytes.
std::vector<Schemes> low_bits() {
  std::vector<Schemes> all;
  for (const bool symmetric : {true, false}) {
    for (const int64_t group : {8, 12, 32, 64, 128}) {
      all.push_back({{4, Granularity::kGroup, group, false, symmetric}, kPerToken});
      all.push_back({{4, Granularity::kGroup, group, true, symmetric}, asymmetric(8)});
    }
    for (const int bits : {2, 3}) {
      all.push_back({{bits, Granularity::kChannel, 0, false, symmetric}, kPerToken});
      all.push_back({{bits, Granularity::kGroup, 32, true, symmetric}, asymmetric(4)});
    }
    all.push_back({{4, Granularity::kTensor, 0, false, symmetric}, asymmetric(8)});
    all.push_back({{4, Granularity::kChannel, 0, false, symmetric}, kStatic});
    all.push_back({{5, Granularity::kChannel, 0, false, symmetric}, kPerToken});
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(LowBits, IntegerProducts, ::testing::ValuesIn(low_bits()));

INSTANTIATE_TEST_SUITE_P(Mxint, IntegerProducts,
                         ::testing::Values(Schemes{mxint(4), kStatic}, Schemes{mxint(8), kPerToken},
                                           Schemes{mxint(3), asymmetric(6)}));

// |code - zero point| of 255 on both sides, of more inputs than 32 bits hold the sum of.
TEST(IntegerProduct, SumsPast32BitsAreExactInEveryRow) {
  const WeightScheme weight{8, Granularity::kChannel, 0, false, false};
  QuantizedTensor q = round_to_nearest(at::randn({3, 40000}), weight);
  q.codes.fill_(127);
  q.zero.fill_(-128);
  Activation x = rounded(at::randn({1, 2, 40000}), asymmetric(8));
  x.codes.fill_(255);
  x.zero.fill_(0);
  expect_of_every_row(q, x, by_loops(q, x));
}

TEST(IntegerProduct, WeightOnAnotherDeviceHasAProductThere) {
  QuantizedTensor q = round_to_nearest(at::randn({6, 40}), {8, Granularity::kChannel});
  Activation x = rounded(at::randn({1, 2, 40}), kPerToken);
  for (Tensor* tensor : {&q.codes, &q.scale, &x.codes, &x.scale}) *tensor = tensor->to(at::kMeta);
  for (const IntegerProduct& row : integer_products()) {
    const Tensor y = row.prepare(q)->product(x);
    EXPECT_TRUE(y.is_meta()) << row.name;
    EXPECT_EQ(y.sizes(), (std::vector<int64_t>{1, 2, 6})) << row.name;
  }
}

TEST(IntegerProduct, NumberOfThreadsDoesNotMatter) {
  at::manual_seed(12);
  const int threads = at::get_num_threads();
  const QuantizedTensor q = round_to_nearest(at::randn({333, 512}), {4, Granularity::kGroup, 128, true});
  const auto prepared = integer_products().front().prepare(q);
  for (const int64_t tokens : {1, 50}) {
    const Activation x = rounded(at::randn({1, tokens, 512}), kPerToken);
    at::set_num_threads(1);
    const Tensor y = prepared->product(x);
    for (const int number : {2, 3}) {
      at::set_num_threads(number);
      EXPECT_TRUE(at::equal(prepared->product(x), y)) << number << " threads, " << tokens << " tokens";
    }
  }
  at::set_num_threads(threads);
}

TEST(FindIntegerProduct, GroupsOfAnySizeHaveOne) {
  for (const int64_t group : {1, 2, 3, 6, 33})
    EXPECT_NE(find_integer_product({4, Granularity::kGroup, group, true}, kPerToken), nullptr) << group;
}

TEST(FindIntegerProduct, CodesThatAreNoIntegersHaveNone) {
  const WeightScheme nf4{4, Granularity::kGroup, kNf4Group, false, true, NumberFormat::kNf4};
  for (const ActivationScheme& activation : {kStatic, kPerToken, asymmetric(4)})
    EXPECT_EQ(find_integer_product(nf4, activation), nullptr);
}

TEST(FindIntegerProduct, ActivationsWithSeveralScalesATokenHaveNone) {
  for (const bool symmetric : {false, true}) {
    const ActivationScheme heads{8, symmetric, /*per_token=*/true, /*group=*/16};
    for (const Granularity granularity : {Granularity::kTensor, Granularity::kChannel})
      EXPECT_EQ(find_integer_product({8, granularity}, heads), nullptr);
    EXPECT_EQ(find_integer_product({4, Granularity::kGroup, 16, true}, heads), nullptr);
  }
}

}  // namespace
}  // namespace ptq
