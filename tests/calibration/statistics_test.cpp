// Largest magnitudes and quantiles, what steps ask for, statistics that follow rewrites; token windows.
#include "ptq/calibration/statistics.h"

#include <gtest/gtest.h>

#include "../base/expect_error.h"
#include "needs.h"
#include "ptq/calibration/tokens.h"

namespace ptq {
namespace {

struct Named {
  const char* name;
  Tensor values;
};

// Distributions on which a selection or an interpolation may go wrong.
std::vector<Named> distributions() {
  at::manual_seed(1);
  Tensor outlier = at::randn({3000});
  outlier[77] = -1e6;
  return {{"normal", at::randn({5000})},
          {"one value", at::tensor({-3.5F})},
          {"two values", at::tensor({1.F, -2.F})},
          {"all equal", at::full({1000}, -0.3F)},
          {"zeros", at::zeros({100})},
          {"ties", at::randint(-4, 5, {4000}, at::kFloat)},
          {"subnormal", at::randn({500}) * 1e-40F},
          {"wide", at::randn({2000}) * at::pow(10., at::randint(-30, 30, {2000}, at::kFloat))},
          {"outlier", outlier}};
}

std::vector<float> largest_of(const Tensor& x, int64_t count) {
  return largest_magnitudes(x.const_data_ptr<float>(), x.numel(), count);
}

TEST(LargestMagnitudes, EqualASort) {
  for (const auto& [name, x] : distributions()) {
    const Tensor sorted = std::get<0>(x.abs().sort(0, /*descending=*/true)).contiguous();
    for (const int64_t count : {int64_t{1}, int64_t{2}, int64_t{17}, x.numel() / 2, x.numel()}) {
      if (count < 1 || count > x.numel()) continue;
      const float* begin = sorted.const_data_ptr<float>();
      EXPECT_EQ(largest_of(x, count), std::vector<float>(begin, begin + count)) << name << " " << count;
    }
  }
}

TEST(LargestMagnitudes, AskingForMoreThanThereAreGivesAll) {
  EXPECT_EQ(largest_of(at::tensor({1.F, -3.F, 2.F}), 10), (std::vector<float>{3, 2, 1}));
}

TEST(Quantile, EqualsTorchsBitForBit) {
  for (const auto& [name, x] : distributions()) {
    for (const double p : {1.0, .99999, .9999, .999, .99, .9, .5, .123, 1e-4}) {
      const float ours = quantile_from_largest(largest_of(x, values_needed(x.numel(), p)), x.numel(), p);
      EXPECT_EQ(ours, x.abs().quantile(p).item<float>()) << name << " " << p;
    }
  }
}

TEST(SiteNeeds, MergedNeedsAskForWhatEitherAsked) {
  SiteNeeds a = percentiles({.9}, PercentileMode::kMoving);
  SiteNeeds b = percentiles({.9, .99}, PercentileMode::kExact);
  b.channel_abs_max = true;
  a.merge(b);
  EXPECT_EQ(a.percentiles, (std::vector<double>{.9, .99}));
  EXPECT_EQ(a.mode, PercentileMode::kExact);
  EXPECT_TRUE(a.channel_abs_max);
  EXPECT_FALSE(a.abs_max);
  a.merge({});
  EXPECT_EQ(a.mode, PercentileMode::kExact);
}

TEST(FirstWindows, AreConsecutiveAndAsManyAsThereAre) {
  const std::vector<int64_t> ids = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  EXPECT_TRUE(at::equal(first_windows(ids, 2, 3, "t"), at::arange(6).reshape({2, 3})));
  EXPECT_TRUE(at::equal(first_windows(ids, 5, 3, "t"), at::arange(9).reshape({3, 3})));
  EXPECT_ERROR(first_windows(ids, 1, 11, "text.txt"), ExitCode::kFailed,
               "text.txt: has 10 tokens; one window needs 11");
}

TEST(InTurns, TakesOneRowOfEachPartUntilTheLongestEnds) {
  const Tensor a = at::tensor({1, 2, 3}).reshape({3, 1}), b = at::tensor({10}).reshape({1, 1});
  EXPECT_TRUE(at::equal(in_turns({a, b, a}).flatten(), at::tensor({1, 10, 1, 2, 2, 3, 3})));
  EXPECT_TRUE(at::equal(in_turns({a}), a));
  EXPECT_TRUE(at::equal(in_turns({b.slice(0, 0, 0), b}), b));
}

TEST(SiteStatistics, CarriedThroughALinearMapAreThoseOfTheMappedValues) {
  at::manual_seed(6);
  const Tensor x = at::randn({40, 6});
  const Tensor T = at::randn({6, 6});
  const auto map = [&](const Tensor& rows) { return at::matmul(rows, T); };
  SiteStatistics statistics;
  statistics.abs_max = 1;
  statistics.channel_abs_max = at::ones({6});
  statistics.samples = x;
  statistics.second_moment = SecondMoment(at::matmul(x.t(), x).to(at::kDouble) / 40);
  statistics.carry(map);
  const Tensor y = map(x);
  EXPECT_TRUE(at::equal(statistics.samples, y));
  EXPECT_TRUE(
      at::allclose(statistics.second_moment.value(), at::matmul(y.t(), y).to(at::kDouble) / 40, 1e-4, 1e-5));
  EXPECT_EQ(statistics.abs_max, 0);
  EXPECT_FALSE(statistics.channel_abs_max.defined());
}

TEST(SecondMoment, FollowsSeveralMapsInTheirOrder) {
  at::manual_seed(7);
  const Tensor x = at::randn({40, 6}), moment = at::matmul(x.t(), x).to(at::kDouble) / 40;
  SecondMoment carried(moment);
  Tensor y = x;
  for (int i = 0; i < 3; ++i) {
    const Tensor T = at::randn({6, 6});
    carried.carry([T](const Tensor& rows) { return at::matmul(rows, T); });
    y = at::matmul(y, T);
    if (i == 1) carried.value();  // asked for on the way
  }
  const SecondMoment copy = carried;
  const Tensor expected = at::matmul(y.t(), y).to(at::kDouble) / 40;
  EXPECT_TRUE(at::allclose(carried.value(), expected, 1e-4, 1e-4));
  EXPECT_TRUE(at::equal(copy.value(), carried.value()));
  EXPECT_FALSE(SecondMoment().defined());
}

}  // namespace
}  // namespace ptq
