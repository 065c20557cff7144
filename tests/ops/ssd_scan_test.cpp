// The scan of Mamba-2 and the norm behind it: against numbers worked out by hand, and the CPU's form against
// the ATen fallback.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "ops/fallback.h"
#include "ptq/ops/ops.h"

namespace {

using at::Tensor;
using ptq::ops::OptionalTensor;
namespace ops = ptq::ops;
namespace fallback = ptq::ops::fallback;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

double relative_error(const Tensor& a, const Tensor& b) {
  if (b.numel() == 0) return 0;
  return ((a - b).abs().max() / b.abs().max().clamp_min(1e-30)).item<double>();
}

bool same_bits(const Tensor& a, const Tensor& b) {
  return at::equal(a.contiguous().view(at::kInt), b.contiguous().view(at::kInt));
}

struct Inputs {
  Tensor u, dt, B, C;
  ops::SsdHeads heads;
  Tensor h;
};

struct Sizes {
  int64_t batch, length, heads, channels, groups, state;
};

Inputs inputs(const Sizes& s) {
  at::manual_seed(1);
  return {at::randn({s.batch, s.length, s.heads * s.channels}),
          at::randn({s.batch, s.length, s.heads}) * 2 - 1,
          at::randn({s.batch, s.length, s.groups * s.state}),
          at::randn({s.batch, s.length, s.groups * s.state}),
          {.A = -at::rand({s.heads}) * 8 - 0.01,
           .dt_bias = at::randn({s.heads}),
           .D = at::randn({s.heads * s.channels}),
           .delta_low = 0.05,
           .delta_high = 0.9,
           .groups = s.groups},
          at::randn({s.batch, s.heads, s.state, s.channels})};
}

Tensor run(const Inputs& in, const Tensor& h) {
  return ops::ssd_scan(in.u, in.dt, in.B, in.C, in.heads, h);
}

Tensor run_fallback(const Inputs& in, const Tensor& h) {
  const ops::SsdHeads& heads = in.heads;
  return fallback::ssd_scan(in.u, in.dt, in.B, in.C, heads.A, heads.dt_bias, heads.D, heads.delta_low,
                            heads.delta_high, heads.groups, h.defined() ? OptionalTensor(h) : std::nullopt);
}

// Two heads of two channels, one state, two steps. dt + dt_bias = ln(e - 1), so delta = 1 before the clamp.
//   head 0: A = -ln 2, so h decays by 1/2; head 1: A = -2 ln 2, by 1/4
Tensor two_steps(const ops::SsdHeads& heads, const Tensor& B, const Tensor& C, const Tensor& h) {
  const float dt = std::log(std::exp(1.0F) - 1.0F);
  const Tensor u = at::tensor({1.F, 2.F, 3.F, 4.F, 0.F, 1.F, 0.F, 1.F}).reshape({1, 2, 4});
  return ops::ssd_scan(u, at::full({1, 2, 2}, dt - 0.25F), B, C, heads, h);
}

ops::SsdHeads two_heads(int64_t groups, double low = 0, double high = kInfinity) {
  const float ln2 = std::log(2.0F);
  return {.A = at::tensor({-ln2, -2 * ln2}),
          .dt_bias = at::full({2}, 0.25F),
          .D = at::tensor({0.F, 10.F, 0.F, 0.F}),
          .delta_low = low,
          .delta_high = high,
          .groups = groups};
}

void expect_near(const Tensor& got, const std::vector<float>& expected) {
  const Tensor row = at::tensor(at::ArrayRef<float>(expected));
  EXPECT_TRUE(at::allclose(got.flatten(), row, 1e-6, 1e-5)) << got.flatten() << "\n" << row;
}

TEST(SsdScan, TwoStepsByHand) {
  const Tensor h = at::tensor({2.F, 0.F, 4.F, 0.F}).reshape({1, 2, 1, 2});
  const Tensor B = at::tensor({1.F, 2.F}).reshape({1, 2, 1}), C = at::tensor({1.F, -1.F}).reshape({1, 2, 1});
  const Tensor y = two_steps(two_heads(1), B, C, h);
  // Step 1, B = 1: head 0 (2/2 + 1, 2), head 1 (4/4 + 3, 4). Step 2, B = 2: (2/2, 2/2 + 2), (4/4, 4/4 + 2).
  expect_near(h, {1, 3, 1, 3});
  expect_near(y, {2, 2 + 20, 4, 4, -1, -3 + 10, -1, -3});
}

TEST(SsdScan, HeadsOfAGroupLieTogether) {
  // A group a head, of one state: head 0 reads the first column of B and C, head 1 the second.
  const Tensor h = at::zeros({1, 2, 1, 2});
  const Tensor B = at::tensor({1.F, 10.F, 0.F, 0.F}).reshape({1, 2, 2}), C = at::ones({1, 2, 2});
  const Tensor y = two_steps(two_heads(2), B, C, h);
  expect_near(y, {1, 2 + 20, 30, 40, 0.5, 1 + 10, 7.5, 10});
}

TEST(SsdScan, StepIsClampedAtBothEnds) {
  const Tensor B = at::ones({1, 2, 1}), C = at::ones({1, 2, 1});
  // delta = 2 instead of 1: h decays by 1/4 and 1/16.
  Tensor h = at::zeros({1, 2, 1, 2});
  expect_near(two_steps(two_heads(1, 2, 3), B, C, h), {2, 4 + 20, 6, 8, 0.5, 3 + 10, 0.375, 2.5});
  // delta = 0.5 instead of 1: by sqrt(1/2) and 1/2.
  h = at::zeros({1, 2, 1, 2});
  const float root = std::sqrt(0.5F);
  expect_near(two_steps(two_heads(1, 0, 0.5), B, C, h),
              {0.5, 1 + 20, 1.5, 2, 0.5F * root, 0.5F + root + 10, 0.75, 1.5});
}

TEST(SsdScan, AgreesWithFallbackOnManyShapes) {
  for (const Sizes& sizes : {Sizes{1, 1, 1, 1, 1, 1}, Sizes{2, 1, 24, 64, 1, 128}, Sizes{3, 17, 6, 10, 3, 5},
                             Sizes{1, 64, 4, 33, 2, 16}, Sizes{2, 9, 5, 16, 5, 7}, Sizes{1, 0, 4, 8, 2, 4}}) {
    const Inputs in = inputs(sizes);
    const Tensor h = in.h.clone(), expected_h = in.h.clone();
    const Tensor y = run(in, h), expected_y = run_fallback(in, expected_h);
    EXPECT_EQ(y.sizes(), in.u.sizes());
    EXPECT_LT(relative_error(y, expected_y), 3e-6) << in.u.sizes();
    EXPECT_LT(relative_error(h, expected_h), 3e-6) << in.u.sizes();
    EXPECT_LT(relative_error(run(in, {}), run_fallback(in, {})), 3e-6) << in.u.sizes();
  }
}

TEST(SsdScan, StateCarriedAcrossSplitsGivesTheSameBits) {
  const Inputs in = inputs({2, 41, 6, 20, 3, 7});
  const Tensor h_whole = in.h.clone(), h_parts = in.h.clone();
  const Tensor whole = run(in, h_whole);
  std::vector<Tensor> parts;
  for (const auto& [begin, count] : std::vector<std::array<int64_t, 2>>{{0, 1}, {1, 1}, {2, 30}, {32, 9}}) {
    const auto part = [b = begin, n = count](const Tensor& x) { return x.narrow(1, b, n); };
    parts.push_back(ops::ssd_scan(part(in.u), part(in.dt), part(in.B), part(in.C), in.heads, h_parts));
  }
  EXPECT_TRUE(same_bits(at::cat(parts, 1), whole));
  EXPECT_TRUE(same_bits(h_parts, h_whole));
}

TEST(SsdScan, StridedInputsAndTwoThreadsGiveTheSameBits) {
  const Inputs in = inputs({3, 20, 8, 16, 2, 24});
  const Tensor h = in.h.clone(), h_strided = in.h.transpose(2, 3).contiguous().transpose(2, 3);
  const Tensor all = at::cat({in.u, in.B, in.C, in.dt}, 2);
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const Tensor expected = run(in, h);
  at::set_num_threads(2);
  const Tensor y = ops::ssd_scan(all.slice(2, 0, 128), all.slice(2, 224), all.slice(2, 128, 176),
                                 all.slice(2, 176, 224), in.heads, h_strided);
  at::set_num_threads(threads);
  EXPECT_TRUE(same_bits(y, expected));
  EXPECT_TRUE(same_bits(h_strided, h));
}

TEST(SsdScan, ShapesThatDoNotFitAreErrors) {
  const Inputs in = inputs({1, 4, 6, 8, 3, 5});
  const auto fails = [&](const auto& change) {
    Inputs bad = in;
    change(bad);
    EXPECT_THROW(run(bad, bad.h), c10::Error);
  };
  fails([](Inputs& bad) { bad.heads.groups = 4; });
  fails([](Inputs& bad) { bad.heads.groups = 0; });
  fails([](Inputs& bad) { bad.heads.groups = 2; });  // 15 states
  fails([](Inputs& bad) { bad.heads.A = bad.heads.A.slice(0, 0, 5); });
  fails([](Inputs& bad) { bad.heads.D = bad.heads.D.slice(0, 0, 6); });
  fails([](Inputs& bad) { bad.heads.delta_low = 1; });
  fails([](Inputs& bad) { bad.dt = bad.dt.slice(2, 0, 5); });
  fails([](Inputs& bad) { bad.C = bad.C.slice(2, 0, 5); });
  fails([](Inputs& bad) { bad.u = bad.u.slice(2, 0, 47); });
  fails([](Inputs& bad) { bad.h = bad.h.transpose(2, 3); });
}

TEST(RmsNormOfGroups, EachPartOfARowIsNormedByItself) {
  // mean squares 12.5 and 0, eps 12.5: divided by 5 and by sqrt 12.5
  const Tensor x = at::tensor({3.F, 4.F, 0.F, 0.F}), gain = at::tensor({5.F, -10.F, 1.F, 1.F});
  EXPECT_TRUE(at::allclose(ops::rms_norm(x, gain, 12.5, 2), at::tensor({3.F, -8.F, 0.F, 0.F})));
  at::manual_seed(3);
  for (const int64_t groups : {1, 2, 3}) {
    const Tensor wide = at::randn({4, 3, 66}) * 3, gains = at::randn({66});
    const Tensor strided = wide.transpose(0, 1).contiguous().transpose(0, 1);
    const Tensor expected = fallback::rms_norm(wide, gains, 1e-5, groups);
    EXPECT_LT(relative_error(ops::rms_norm(wide, gains, 1e-5, groups), expected), 1e-6) << groups;
    EXPECT_LT(relative_error(ops::rms_norm(strided, gains, 1e-5, groups), expected), 1e-6) << groups;
  }
  EXPECT_THROW(ops::rms_norm(x, gain, 1e-5, 3), c10::Error);
  EXPECT_THROW(ops::rms_norm(x, gain, 1e-5, 0), c10::Error);
}

}  // namespace
