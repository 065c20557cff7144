// The ops against numbers worked out by hand, against dense formulas, and the CPU kernels against the ATen
// fallback.
#include "ptq/ops/ops.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "ops/fallback.h"

namespace {

using at::Tensor;
using ptq::ops::OptionalTensor;
namespace ops = ptq::ops;
namespace fallback = ptq::ops::fallback;

Tensor floats(const std::vector<float>& values, at::IntArrayRef shape) {
  return at::tensor(at::ArrayRef<float>(values)).reshape(shape);
}

// max |a - b| / max |b|
double relative_error(const Tensor& a, const Tensor& b) {
  if (b.numel() == 0) return 0;
  return ((a - b).abs().max() / b.abs().max().clamp_min(1e-30)).item<double>();
}

bool same_bits(const Tensor& a, const Tensor& b) {
  return at::equal(a.contiguous().view(at::kInt), b.contiguous().view(at::kInt));
}

// The same bits, or NaN in both.
bool same_values(const Tensor& a, const Tensor& b) {
  return at::equal(a.isnan(), b.isnan()) && same_bits(a.nan_to_num(0), b.nan_to_num(0));
}

struct ScanInputs {
  Tensor u, dt, A, B, C, D, z, h;
};

ScanInputs scan_inputs(int64_t batch, int64_t length, int64_t inner, int64_t state) {
  at::manual_seed(1);
  return {at::randn({batch, length, inner}),     at::randn({batch, length, inner}) * 2 - 2,
          -at::rand({inner, state}) * 8 - 0.01,  at::randn({batch, length, state}),
          at::randn({batch, length, state}),     at::randn({inner}),
          at::randn({batch, length, inner}) * 2, at::randn({batch, inner, state})};
}

Tensor run_scan(const ScanInputs& in, const Tensor& h) {
  return ops::selective_scan(in.u, in.dt, in.A, in.B, in.C, in.D, in.z, h);
}

Tensor run_scan_fallback(const ScanInputs& in, const Tensor& h) {
  const OptionalTensor state = h.defined() ? OptionalTensor(h) : std::nullopt;
  return fallback::selective_scan(in.u, in.dt, in.A, in.B, in.C, in.D, in.z, state);
}

// A Hadamard matrix of size m by Paley's first construction (q = m - 1 a prime, 3 mod 4); not symmetric.
Tensor paley(int64_t m) {
  if (m == 1) return at::ones({1, 1});
  const int64_t q = m - 1;
  std::vector<bool> is_square(static_cast<size_t>(q), false);
  for (int64_t i = 1; i < q; ++i) is_square[static_cast<size_t>(i * i % q)] = true;
  Tensor base = at::ones({m, m});
  auto entries = base.accessor<float, 2>();
  for (int64_t i = 0; i < q; ++i) {
    entries[i + 1][0] = -1;
    for (int64_t j = 0; j < q; ++j) {
      const bool square = i == j || is_square[static_cast<size_t>((j - i + q) % q)];
      entries[i + 1][j + 1] = square ? 1.0f : -1.0f;
    }
  }
  return base;
}

Tensor sylvester(int64_t n) {
  Tensor H = at::ones({1, 1});
  while (H.size(0) < n) H = at::cat({at::cat({H, H}, 1), at::cat({H, -H}, 1)}, 0);
  return H;
}

// One channel, a state of two, two steps; every number below was worked out on paper with ln 2 and sqrt(1/2).
//   dt = ln(e - 1), so delta = 1; A = -(ln 2, 2 ln 2), so h decays by 1/2 and 1/4; z = 0 in step one, huge in
//   step two
TEST(SelectiveScan, TwoStepsByHand) {
  const float dt = std::log(std::exp(1.0f) - 1.0f), ln2 = std::log(2.0f);
  const Tensor h = floats({4, 8}, {1, 1, 2});
  const Tensor y = ops::selective_scan(floats({2, 3}, {1, 2, 1}), floats({dt, dt}, {1, 2, 1}),
                                       floats({-ln2, -2 * ln2}, {1, 2}), floats({1, 2, -1, 1}, {1, 2, 2}),
                                       floats({1, 1, 2, -1}, {1, 2, 2}), floats({10}, {1}),
                                       floats({0, 100}, {1, 2, 1}), h);
  // h_1 = (4/2 + 2, 8/4 + 4) = (4, 6); h_2 = (4/2 - 3, 6/4 + 3) = (-1, 4.5); y_2 = (-2 - 4.5 + 30) * 100
  EXPECT_EQ(y[0][0][0].item<float>(), 0.0f);
  EXPECT_NEAR(y[0][1][0].item<float>(), 2350.0f, 2e-3f);
  EXPECT_NEAR(h[0][0][0].item<float>(), -1.0f, 1e-6f);
  EXPECT_NEAR(h[0][0][1].item<float>(), 4.5f, 2e-6f);
}

TEST(SelectiveScan, AgreesWithFallbackOnManyShapes) {
  for (const auto& [batch, length, inner, state] : std::vector<std::array<int64_t, 4>>{{1, 1, 1, 1},
                                                                                       {2, 1, 1536, 16},
                                                                                       {3, 17, 37, 16},
                                                                                       {1, 64, 130, 5},
                                                                                       {2, 9, 16, 256},
                                                                                       {1, 0, 8, 16}}) {
    const ScanInputs in = scan_inputs(batch, length, inner, state);
    const Tensor h = in.h.clone(), expected_h = in.h.clone();
    const Tensor y = run_scan(in, h), expected_y = run_scan_fallback(in, expected_h);
    EXPECT_EQ(y.sizes(), in.u.sizes());
    EXPECT_LT(relative_error(y, expected_y), 2e-6) << in.u.sizes() << " " << state;
    EXPECT_LT(relative_error(h, expected_h), 2e-6) << in.u.sizes() << " " << state;
    EXPECT_LT(relative_error(run_scan(in, {}), run_scan_fallback(in, {})), 2e-6) << in.u.sizes();
  }
}

TEST(SelectiveScan, StateCarriedAcrossSplitsGivesTheSameBits) {
  const ScanInputs in = scan_inputs(2, 41, 70, 16);
  const Tensor h_whole = in.h.clone(), h_parts = in.h.clone();
  const Tensor whole = run_scan(in, h_whole);
  std::vector<Tensor> parts;
  for (const auto& [begin, count] : std::vector<std::array<int64_t, 2>>{{0, 1}, {1, 1}, {2, 30}, {32, 9}}) {
    auto part = [b = begin, n = count](const Tensor& x) { return x.narrow(1, b, n); };
    parts.push_back(ops::selective_scan(part(in.u), part(in.dt), in.A, part(in.B), part(in.C), in.D,
                                        part(in.z), h_parts));
  }
  EXPECT_TRUE(same_bits(at::cat(parts, 1), whole));
  EXPECT_TRUE(same_bits(h_parts, h_whole));
}

TEST(SelectiveScan, StridedInputsGiveTheSameBits) {
  const ScanInputs in = scan_inputs(2, 20, 48, 16);
  const Tensor h = in.h.clone(), h_strided = in.h.transpose(1, 2).contiguous().transpose(1, 2);
  const Tensor xz = at::cat({in.u, in.z}, 2), dbc = at::cat({in.B, in.C}, 2);
  const Tensor y = ops::selective_scan(
      xz.narrow(2, 0, 48), in.dt.transpose(1, 2).contiguous().transpose(1, 2), in.A.t().contiguous().t(),
      dbc.narrow(2, 0, 16), dbc.narrow(2, 16, 16), in.D, xz.narrow(2, 48, 48), h_strided);
  EXPECT_TRUE(same_bits(y, run_scan(in, h)));
  EXPECT_TRUE(same_bits(h_strided, h));
}

// x = (1, 2, 3), weight (oldest first) = (10, 1), bias = 0.5: sums 1.5 (nothing before), 12.5, 23.5.
TEST(CausalConv, ThreeStepsByHand) {
  const Tensor y =
      ops::causal_conv1d_silu(floats({1, 2, 3}, {1, 3, 1}), floats({10, 1}, {1, 2}), floats({0.5f}, {1}));
  const std::vector<double> sums = {1.5, 12.5, 23.5};
  for (int64_t t = 0; t < 3; ++t) {
    const double s = sums[static_cast<size_t>(t)];
    EXPECT_NEAR(y[0][t][0].item<double>(), s / (1 + std::exp(-s)), 1e-6 * s);
  }
}

TEST(CausalConv, AgreesWithFallbackOnEveryWidth) {
  at::manual_seed(2);
  for (int64_t width = 1; width <= 8; ++width) {
    for (const int64_t length : {1, 3, 33}) {
      const Tensor x = at::randn({2, length, 75}), weight = at::randn({75, width}), bias = at::randn({75});
      const Tensor window = at::randn({2, width - 1, 75}), expected_window = window.clone();
      const Tensor y = ops::causal_conv1d_silu(x, weight, bias, window);
      EXPECT_LT(relative_error(y, fallback::causal_conv1d_silu(x, weight, bias, expected_window)), 1e-6);
      EXPECT_TRUE(same_bits(window, expected_window)) << width << " " << length;
      EXPECT_LT(relative_error(ops::causal_conv1d_silu(x, weight, {}),
                               fallback::causal_conv1d_silu(x, weight, std::nullopt, std::nullopt)),
                1e-6);
    }
  }
}

TEST(CausalConv, WindowCarriedAcrossSplitsGivesTheSameBits) {
  at::manual_seed(3);
  const Tensor x = at::randn({2, 20, 50}).transpose(1, 2).contiguous().transpose(1, 2);
  const Tensor weight = at::randn({50, 4}), bias = at::randn({50});
  const Tensor window_whole = at::zeros({2, 3, 50}), window_parts = at::zeros({2, 3, 50});
  const Tensor whole = ops::causal_conv1d_silu(x, weight, bias, window_whole);
  EXPECT_TRUE(same_bits(whole, ops::causal_conv1d_silu(x, weight, bias)));
  std::vector<Tensor> parts;
  for (const auto& [begin, count] : std::vector<std::array<int64_t, 2>>{{0, 1}, {1, 2}, {3, 1}, {4, 16}})
    parts.push_back(ops::causal_conv1d_silu(x.narrow(1, begin, count), weight, bias, window_parts));
  EXPECT_TRUE(same_bits(at::cat(parts, 1), whole));
  EXPECT_TRUE(same_bits(window_parts, window_whole));
}

// Natural order: H_4 (1, 2, 3, 4) = (10, -2, -4, 0), halved by 1/sqrt(4).
TEST(Hadamard, FourByHand) {
  const Tensor y = ops::hadamard(floats({1, 2, 3, 4}, {4}), at::ones({1, 1}), 4);
  EXPECT_TRUE(at::equal(y, floats({5, -1, -2, 0}, {4})));
}

TEST(Hadamard, EqualsDenseProductForEveryBase) {
  at::manual_seed(4);
  for (const int64_t m : {1, 4, 12, 20}) {
    const Tensor base = paley(m);
    ASSERT_TRUE(at::equal(at::matmul(base, base.t()), static_cast<double>(m) * at::eye(m)));
    for (const int64_t chunk : {1, 2, 4, 8, 16, 32, 128}) {
      const int64_t block = m * chunk;
      const Tensor dense =
          at::kron(base, sylvester(chunk)).to(at::kDouble) / std::sqrt(static_cast<double>(block));
      const Tensor x = at::randn({2, 3, 2 * block});
      const Tensor expected =
          at::matmul(x.to(at::kDouble).reshape({2, 3, 2, block}), dense.t()).reshape(x.sizes());
      EXPECT_LT(relative_error(ops::hadamard(x, base, block).to(at::kDouble), expected), 1e-6)
          << m << " " << chunk;
      EXPECT_LT(relative_error(fallback::hadamard(x, base, block).to(at::kDouble), expected), 1e-6);
    }
  }
}

TEST(Hadamard, TransposedBaseUndoesIt) {
  at::manual_seed(5);
  for (const int64_t m : {1, 12, 20}) {
    const Tensor x = at::randn({5, m * 64}), base = paley(m);
    EXPECT_LT(relative_error(ops::hadamard(ops::hadamard(x, base, m * 64), base.t(), m * 64), x), 1e-6);
  }
}

Tensor codes_of(const std::vector<int64_t>& values, at::ScalarType type) {
  return at::tensor(at::ArrayRef<int64_t>(values)).to(type);
}

// Halves go to the even neighbour; beyond the range the end of the range.
TEST(QuantizeCodes, HalvesAndRangeByHand) {
  const Tensor x = floats({0.25f, 0.75f, 1.25f, -0.25f, -0.75f, 100, -100, 0}, {8});
  const Tensor expected = codes_of({0, 2, 2, 0, -2, 127, -128, 0}, at::kChar);
  const auto [codes, scale] = ops::quantize_codes(x, floats({0.5f}, {1}), -128, 127);
  EXPECT_EQ(codes.scalar_type(), at::kChar);
  EXPECT_TRUE(at::equal(codes, expected));
  EXPECT_TRUE(at::equal(scale, floats({0.5f}, {1})));
}

TEST(QuantizeCodes, EqualDivRoundClamp) {
  at::manual_seed(6);
  for (const int64_t n : {1, 7, 16, 33, 1536}) {
    const Tensor x = at::randn({4, 5, n}) * 40;
    const Tensor rows = at::rand({4, 5, 1}) + 0.01;
    Tensor special = x.clone();
    special[1][0][0] = NAN;
    special[1][1][n / 2] = INFINITY;
    special[1][2][n - 1] = -INFINITY;
    for (const Tensor& values : {x, x.transpose(0, 1).contiguous().transpose(0, 1), special}) {
      for (const Tensor& scale : {rows, floats({0.37f}, {1})}) {
        const auto [codes, returned] = ops::quantize_codes(values, scale, -128, 127);
        const auto [expected, expected_scale] = fallback::quantize_codes(values, scale, -128, 127);
        EXPECT_TRUE(at::equal(codes, expected)) << n;
        EXPECT_TRUE(same_values(returned, expected_scale)) << n;
        const Tensor plain = at::nan_to_num(at::round(values / scale), -128.0).clamp(-128, 127);
        EXPECT_TRUE(at::equal(codes.to(at::kFloat), plain)) << n;
      }
    }
  }
}

TEST(QuantizeCodes, NanHasTheLowestCodeAndMakesItsScaleNan) {
  const Tensor x = floats({1, NAN, 2, 3, 4, 5}, {3, 2});
  const auto [by_row, row_scale] = ops::quantize_codes(x, floats({1, 2, 1}, {3, 1}), -8, 7);
  EXPECT_TRUE(at::equal(by_row, codes_of({1, -8, 1, 2, 4, 5}, at::kChar).reshape({3, 2})));
  EXPECT_TRUE(same_values(row_scale, floats({NAN, 2, 1}, {3, 1})));
  const auto [together, scale] = ops::quantize_codes(x, floats({1}, {1}), -8, 7);
  EXPECT_TRUE(at::equal(together, codes_of({1, -8, 2, 3, 4, 5}, at::kChar).reshape({3, 2})));
  EXPECT_TRUE(same_values(scale, floats({NAN}, {1})));
}

TEST(QuantizeCodes, ReturnedScaleIsATensorOfItsOwn) {
  const Tensor given = floats({0.5f}, {1});
  const auto [codes, scale] = ops::quantize_codes(floats({1, 2}, {2}), given, -128, 127);
  scale.fill_(7);
  EXPECT_EQ(given.item<float>(), 0.5f);
}

TEST(RoundToCodes, IsWhatTheCodesStandFor) {
  at::manual_seed(11);
  for (const int64_t n : {1, 7, 16, 33, 1536}) {
    const Tensor x = at::randn({4, 5, n}) * 30, step = at::full({1}, 0.3F);
    for (const Tensor& rows : {x, x.transpose(0, 1), x.narrow(0, 0, 0)}) {
      const Tensor expected = std::get<0>(ops::quantize_codes(rows, step, -128, 127)).to(at::kFloat) * step;
      EXPECT_TRUE(at::equal(ops::round_to_codes(rows, step, -128, 127), expected)) << n;
      EXPECT_TRUE(at::equal(fallback::round_to_codes(rows, step, -128, 127), expected)) << n;
    }
  }
  EXPECT_TRUE(same_values(ops::round_to_codes(floats({1, NAN, 900}, {3}), floats({2}, {1}), -8, 7),
                          floats({0, NAN, 14}, {3})));
  EXPECT_THROW(ops::round_to_codes(at::ones({2, 3}), at::ones({2, 1}), -8, 7), c10::Error);
}

TEST(RoundToCodes, ScaleOfAChannelIsThatOfItsColumn) {
  const Tensor x = at::randn({3, 5, 21}) * 30, scale = at::rand({21}) + 0.1F;
  const Tensor rounded = ops::round_to_codes(x, scale, -8, 7);
  for (int64_t c = 0; c < 21; ++c) {
    const Tensor alone = ops::round_to_codes(x.slice(-1, c, c + 1), scale.slice(0, c, c + 1), -8, 7);
    EXPECT_TRUE(at::equal(rounded.slice(-1, c, c + 1), alone)) << c;
  }
  EXPECT_TRUE(at::equal(fallback::round_to_codes(x, scale, -8, 7), rounded));
  EXPECT_THROW(ops::round_to_codes(x, at::ones({20}), -8, 7), c10::Error);
}

// The specification's codes of a row that is clipped at both ends: 0 is code 4.
TEST(QuantizeAsymmetric, ClippedRowOfTheSpecification) {
  const Tensor x = floats({-3.5f, -2.5f, -1.5f, -0.5f, 0, 0.5f, 1.5f, 2.5f, 3.5f, 4.5f, 5.5f, 11.5f}, {12});
  const Tensor expected = codes_of({0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 15}, at::kByte);
  const auto [codes, zero, step] = ops::quantize_asymmetric(x, 4, 0.8);
  EXPECT_EQ(codes.scalar_type(), at::kByte);
  EXPECT_EQ(zero.scalar_type(), at::kByte);
  EXPECT_TRUE(at::equal(codes, expected));
  EXPECT_EQ(zero.item<int64_t>(), 4);
  EXPECT_EQ(step.item<float>(), 0.800000011920929f);
}

// x [4, 5, n], the same strided, none, transposed, and with zeros, a NaN, infinities and tiny values.
std::vector<Tensor> rows_to_round(int64_t n) {
  const Tensor x = at::randn({4, 5, n}) * 3 + at::arange(5).unsqueeze(1) - 2;
  Tensor special = x.clone();
  special.select(0, 0).zero_();
  special[1][0][0] = NAN;
  special[1][1][n / 2] = INFINITY;
  special[1][2][n - 1] = -INFINITY;
  special.select(0, 2).fill_(-1e-7);
  return {x, x.transpose(0, 1).contiguous().transpose(0, 1), x.narrow(0, 0, 0), x.transpose(0, 2), special};
}

// Bits, clip factor and group; transposed, a row has 4 values.
const std::tuple<int64_t, double, int64_t> kRoundings[] = {{4, 0.9, 0}, {8, 1, 0}, {2, 0.3, 0}, {4, 0.9, 4}};

TEST(QuantizeAsymmetric, BitsEqualFallback) {
  at::manual_seed(9);
  for (const int64_t n : {1, 7, 16, 33, 64, 1536}) {
    for (const Tensor& rows : rows_to_round(n)) {
      for (const auto& [bits, clip, group] : kRoundings) {
        if (group != 0 && rows.size(-1) % group != 0) continue;
        const auto [codes, zero, step] = ops::quantize_asymmetric(rows, bits, clip, group);
        const auto expected = fallback::quantize_asymmetric(rows, bits, clip, group);
        EXPECT_TRUE(at::equal(codes, std::get<0>(expected))) << n << " " << bits;
        EXPECT_TRUE(at::equal(zero, std::get<1>(expected))) << n << " " << bits;
        EXPECT_TRUE(same_values(step, std::get<2>(expected))) << n << " " << bits;
      }
    }
  }
}

TEST(QuantizeSymmetric, BitsEqualFallback) {
  at::manual_seed(10);
  for (const int64_t n : {1, 7, 16, 33, 64, 1536}) {
    for (const Tensor& rows : rows_to_round(n)) {
      for (const auto& [bits, clip, group] : kRoundings) {
        if (group != 0 && rows.size(-1) % group != 0) continue;
        const auto [codes, step] = ops::quantize_symmetric(rows, bits, clip, group);
        const auto expected = fallback::quantize_symmetric(rows, bits, clip, group);
        EXPECT_TRUE(at::equal(codes, std::get<0>(expected))) << n << " " << bits;
        EXPECT_TRUE(same_values(step, std::get<1>(expected))) << n << " " << bits;
      }
    }
  }
}

TEST(QuantizeSymmetric, GroupsHaveStepsOfTheirOwnAndNanStaysInItsGroup) {
  const Tensor x = floats({-14, 7, 1.2f, 2, NAN, 3, 0, 0}, {1, 8});
  const auto [codes, step] = ops::quantize_symmetric(x, 4, 1, 2);
  EXPECT_TRUE(at::equal(codes, codes_of({-7, 4, 4, 7, -8, -8, 0, 0}, at::kChar).reshape({1, 8})));
  EXPECT_TRUE(same_values(step, floats({2, 2.0F / 7, NAN, 0x1p-126F}, {1, 4, 1})));
}

TEST(QuantizeAsymmetric, RowWithANanHasCodesOfZeroAndAStepOfNan) {
  const auto [codes, zero, step] = ops::quantize_asymmetric(floats({-1, NAN, 2, -1, 0, 2}, {2, 3}), 4, 1);
  EXPECT_TRUE(at::equal(codes, codes_of({0, 0, 0, 0, 5, 15}, at::kByte).reshape({2, 3})));
  EXPECT_TRUE(at::equal(zero, codes_of({0, 5}, at::kByte).reshape({2, 1})));
  EXPECT_TRUE(same_values(step, floats({NAN, 0.2f}, {2, 1})));
}

TEST(AbsMaxRows, BitsEqualFallbackAndNanIsKept) {
  at::manual_seed(7);
  for (const int64_t n : {1, 7, 16, 33, 1536}) {
    const Tensor x = at::randn({4, 5, n});
    EXPECT_TRUE(same_bits(ops::abs_max_rows(x), fallback::abs_max_rows(x)));
    const Tensor strided = at::randn({4, n, 5}).transpose(1, 2);
    EXPECT_TRUE(same_bits(ops::abs_max_rows(strided), fallback::abs_max_rows(strided)));
  }
  EXPECT_TRUE(std::isnan(ops::abs_max_rows(floats({1, NAN, 3}, {3})).item<float>()));
}

TEST(RmsNorm, ThreeFourByHand) {
  // mean of squares 12.5, eps 12.5: divided by 5.
  const Tensor y = ops::rms_norm(floats({3, 4}, {2}), floats({5, -10}, {2}), 12.5);
  EXPECT_NEAR(y[0].item<double>(), 3, 1e-6);
  EXPECT_NEAR(y[1].item<double>(), -8, 1e-6);
}

TEST(RmsNorm, AgreesWithFallback) {
  at::manual_seed(8);
  for (const int64_t n : {1, 7, 16, 33, 768}) {
    const Tensor x = at::randn({3, 4, n}) * 3, gain = at::randn({n});
    EXPECT_LT(relative_error(ops::rms_norm(x, gain, 1e-5), fallback::rms_norm(x, gain, 1e-5, 1)), 1e-6) << n;
  }
}

TEST(Ops, OneAndTwoThreadsGiveTheSameBits) {
  const ScanInputs in = scan_inputs(3, 33, 200, 16);
  const Tensor weight = at::randn({200, 4}), x = at::randn({512, 384}), base = paley(12);
  auto run_all = [&](int threads) {
    at::set_num_threads(threads);
    const Tensor h = in.h.clone();
    const Tensor y = run_scan(in, h);
    return std::vector<Tensor>{y,
                               h,
                               ops::causal_conv1d_silu(in.u, weight, in.D),
                               ops::hadamard(x, base, 384),
                               std::get<0>(ops::quantize_codes(x, at::full({1}, 0.01f), -8, 7)),
                               std::get<0>(ops::quantize_symmetric(x, 4, 0.9)),
                               std::get<1>(ops::quantize_symmetric(x, 4, 0.9)),
                               std::get<0>(ops::quantize_asymmetric(x, 4, 0.9)),
                               std::get<2>(ops::quantize_asymmetric(x, 4, 0.9)),
                               ops::abs_max_rows(x),
                               ops::rms_norm(x, at::ones({384}), 1e-5),
                               ops::gather_columns(x, at::arange(383, -1, -1))};
  };
  const std::vector<Tensor> one = run_all(1), two = run_all(2);
  at::set_num_threads(1);
  for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(same_bits(one[i], two[i])) << "result " << i;
}

TEST(Linear, OneAndTwoThreadsGiveTheSameBitsForAnyNumberOfRows) {
  at::manual_seed(5);
  const int threads = at::get_num_threads();
  for (const auto& [out, in] : {std::pair<int64_t, int64_t>(192, 576), {128, 352}, {576, 192}}) {
    const Tensor W = at::randn({out, in}), bias = at::randn({out});
    for (int64_t rows = 1; rows < 20; ++rows) {
      const Tensor x = at::randn({rows, 1, in});
      at::set_num_threads(1);
      const Tensor one = ops::linear(x, W, bias);
      at::set_num_threads(2);
      EXPECT_TRUE(at::equal(one, ops::linear(x, W, bias))) << rows << " rows of " << in;
      EXPECT_TRUE(at::allclose(one, at::linear(x, W, bias), 1e-4, 1e-4)) << rows;
      EXPECT_TRUE(one.is_contiguous());
    }
  }
  at::set_num_threads(threads);
}

TEST(GatherColumns, BitsEqualFallbackAndIndicesAreChecked) {
  at::manual_seed(10);
  for (const int64_t n : {1, 7, 33, 576}) {
    const Tensor x = at::randn({4, 5, n}), index = at::randint(n, {n + 3}, at::kLong);
    for (const Tensor& rows : {x, x.transpose(0, 1), x.narrow(0, 0, 0), at::randn({4, n, 5}).transpose(1, 2)})
      EXPECT_TRUE(same_bits(ops::gather_columns(rows, index), fallback::gather_columns(rows, index))) << n;
    EXPECT_THROW(ops::gather_columns(x, index + n), c10::Error);
    EXPECT_THROW(ops::gather_columns(x, index - n), c10::Error);
    EXPECT_THROW(ops::gather_columns(x, index.to(at::kInt)), c10::Error);
  }
}

TEST(Gram, OneAndTwoThreadsGiveTheSameBits) {
  at::manual_seed(23);
  for (const int64_t n : {64, 192, 500}) {
    const Tensor x = at::randn({2048, n});
    at::set_num_threads(1);
    const Tensor one = ops::gram(x);
    at::set_num_threads(2);
    EXPECT_TRUE(same_bits(one, ops::gram(x))) << n;
    EXPECT_EQ(at::get_num_threads(), 2);
    at::set_num_threads(1);
  }
}

TEST(Gram, AddedUpAndMirroredIsTheSumOfProducts) {
  at::manual_seed(22);
  for (const int64_t n : {1, 191, 192, 500}) {
    const Tensor a = at::randn({30, n}), b = at::randn({50, n});
    const Tensor sum = at::zeros({n, n}, at::kDouble);
    ops::add_gram(sum, a);
    ops::add_gram(sum, b);
    ops::mirror_upper(sum);
    const Tensor all = at::cat({a, b}).to(at::kDouble);
    EXPECT_LT((sum - all.t().matmul(all)).abs().max().item<double>(), 1e-4) << n;
    EXPECT_TRUE(at::equal(sum, sum.t())) << n;
  }
}

TEST(Gram, IsTheProductWithItselfAndExactlySymmetric) {
  at::manual_seed(21);
  for (const int64_t n : {1, 5, 256, 257, 600}) {
    const Tensor x = at::randn({70, n});
    const Tensor result = ops::gram(x);
    const Tensor expected = at::matmul(x.to(at::kDouble).t(), x.to(at::kDouble));
    EXPECT_LT((result.to(at::kDouble) - expected).abs().max().item<double>(), 1e-4) << n;
    EXPECT_TRUE(at::equal(result, result.t())) << n;
  }
}

TEST(Ops, WrongArgumentsAreErrors) {
  const ScanInputs in = scan_inputs(1, 4, 8, 2);
  EXPECT_THROW(ops::selective_scan(in.u, in.dt, in.A.t(), in.B, in.C, in.D, in.z), c10::Error);
  EXPECT_THROW(run_scan(in, at::zeros({1, 2, 8})), c10::Error);
  EXPECT_THROW(ops::abs_max_rows(at::ones({4}, at::kDouble)), c10::Error);
  EXPECT_THROW(ops::abs_max_rows(at::ones({4}).requires_grad_()), c10::Error);
  EXPECT_THROW(ops::hadamard(at::ones({24}), at::ones({1, 1}), 24), c10::Error);
  EXPECT_THROW(ops::hadamard(at::ones({24}), at::ones({1, 1}), 16), c10::Error);
  EXPECT_THROW(ops::quantize_codes(at::ones({2, 3}), at::ones({3}), -8, 7), c10::Error);
  EXPECT_THROW(ops::quantize_codes(at::ones({2, 3}), at::ones({1}), 8, 7), c10::Error);
  EXPECT_THROW(ops::quantize_codes(at::ones({2, 3}), at::ones({1}), -129, 7), c10::Error);
  EXPECT_THROW(ops::quantize_codes(at::ones({2, 3}), at::ones({1}), -8, 128), c10::Error);
  EXPECT_THROW(ops::quantize_asymmetric(at::ones({2, 3}), 9, 1), c10::Error);
  EXPECT_THROW(ops::quantize_asymmetric(at::ones({2, 3}), 4, 1, 2), c10::Error);
  EXPECT_THROW(ops::quantize_symmetric(at::ones({2, 3}), 1, 1), c10::Error);
  EXPECT_THROW(ops::quantize_symmetric(at::ones({2, 3}), 4, 1, -1), c10::Error);
  EXPECT_THROW(ops::quantize_asymmetric(at::ones({2, 3}), 4, 0), c10::Error);
  EXPECT_THROW(ops::rms_norm(at::ones({2, 3}), at::ones({2}), 1e-5), c10::Error);
  EXPECT_THROW(ops::causal_conv1d_silu(at::ones({1, 2, 3}), at::ones({3, 4}), {}, at::ones({1, 4, 3})),
               c10::Error);
}

}  // namespace
