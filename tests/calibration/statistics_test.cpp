// Observers: largest magnitudes, percentiles per sample and over all, channel maxima; token windows.
#include "ptq/calibration/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "../base/expect_error.h"
#include "ptq/calibration/stream.h"
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

SiteNeeds percentiles(std::vector<double> p, PercentileMode mode) {
  SiteNeeds needs;
  needs.percentiles = std::move(p);
  needs.mode = mode;
  return needs;
}

TEST(SiteObserver, MovingPercentileFollowsSamplesInOrder) {
  at::manual_seed(2);
  const Tensor x = at::randn({6, 10, 30}) * at::arange(1, 7).reshape({6, 1, 1});
  SiteObserver observer("site", percentiles({.9, .99}, PercentileMode::kMoving), 6);
  observer.observe(x.slice(0, 0, 4));
  observer.observe(x.slice(0, 4, 6));
  for (const double p : {.9, .99}) {
    float value = 0;
    for (int64_t i = 0; i < 6; ++i) {
      const auto c = x[i].abs().flatten().quantile(p).item<float>();
      value = i == 0 ? c : value + 0.01F * (c - value);
    }
    EXPECT_FLOAT_EQ(static_cast<float>(observer.statistics().percentiles.at(p)), value);
  }
}

TEST(SiteObserver, MovingPercentileDependsOnTheOrderTheExactOneDoesNot) {
  at::manual_seed(3);
  const Tensor x = at::randn({4, 5, 20}) * at::tensor({1.F, 5.F, 2.F, 9.F}).reshape({4, 1, 1});
  const auto value = [&](PercentileMode mode, const Tensor& samples) {
    SiteObserver observer("site", percentiles({.95}, mode), 4);
    observer.observe(samples);
    return observer.statistics().percentiles.at(.95);
  };
  EXPECT_NE(value(PercentileMode::kMoving, x), value(PercentileMode::kMoving, x.flip(0)));
  EXPECT_EQ(value(PercentileMode::kExact, x), value(PercentileMode::kExact, x.flip(0)));
}

TEST(SiteObserver, ExactPercentileIsTheQuantileOfAllValuesInAnyBatches) {
  at::manual_seed(4);
  const Tensor x = at::randn({8, 16, 25}) * at::arange(1, 9).reshape({8, 1, 1});
  for (const int64_t batch : {1, 3, 8}) {
    SiteObserver observer("site", percentiles({.5, .99, .9999}, PercentileMode::kExact), 8);
    for (int64_t i = 0; i < 8; i += batch) observer.observe(x.slice(0, i, std::min<int64_t>(8, i + batch)));
    for (const double p : {.5, .99, .9999}) {
      EXPECT_EQ(static_cast<float>(observer.statistics().percentiles.at(p)),
                x.abs().flatten().quantile(p).item<float>())
          << batch << " " << p;
    }
  }
}

TEST(SiteObserver, MaximaAreThoseOfAllSamples) {
  at::manual_seed(5);
  const Tensor x = at::randn({7, 9, 11});
  SiteNeeds needs;
  needs.abs_max = true;
  needs.channel_abs_max = true;
  SiteObserver observer("site", needs, 7);
  observer.observe(x.slice(0, 0, 5));
  observer.observe(x.slice(0, 5, 7));
  const SiteStatistics statistics = observer.statistics();
  EXPECT_EQ(statistics.abs_max, x.abs().max().item<double>());
  EXPECT_TRUE(at::equal(statistics.channel_abs_max, x.abs().amax({0, 1})));
}

TEST(SiteObserver, NanOrInfiniteActivationsAreAnErrorThatNamesTheSite) {
  std::vector<SiteNeeds> all(5);
  all[0].abs_max = true;
  all[1].channel_abs_max = true;
  all[2].channel_mean_abs = true;
  all[3].samples = 3;
  all[4].second_moment = true;
  for (const SiteNeeds& needs : all) {
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), -INFINITY}) {
      SiteObserver observer("layers.3.ssm.x", needs, 1);
      Tensor x = at::ones({1, 3, 40});
      x[0][1][20] = bad;
      EXPECT_ERROR(observer.observe(x), ExitCode::kFailed, "layers.3.ssm.x");
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

TEST(ForEachBatch, CoversEveryRowOnceInOrder) {
  for (const int64_t length : {int64_t{1}, int64_t{512}, kTokensPerBatch, 3 * kTokensPerBatch}) {
    int64_t next = 0;
    for_each_batch(13, length, [&](int64_t begin, int64_t end) {
      EXPECT_EQ(begin, next);
      EXPECT_GT(end, begin);
      next = end;
    });
    EXPECT_EQ(next, 13);
  }
}

TEST(SiteObserver, GathersTheFirstTokensAndTheSecondMomentOfAll) {
  at::manual_seed(5);
  const Tensor x = at::randn({6, 7, 5});
  SiteNeeds needs;
  needs.samples = 10;
  needs.second_moment = true;
  SiteObserver observer("site", needs, 6);
  observer.observe(x.slice(0, 0, 1));
  observer.observe(x.slice(0, 1, 6));
  const SiteStatistics statistics = observer.statistics();
  const Tensor rows = x.flatten(0, 1);
  EXPECT_TRUE(at::equal(statistics.samples, rows.slice(0, 0, 10)));
  EXPECT_TRUE(
      at::allclose(statistics.second_moment.value(), at::matmul(rows.t(), rows).to(at::kDouble) / 42, 1e-5));
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

TEST(SiteObserver, ChannelMaximaOfManyRowsKeepNan) {
  at::manual_seed(8);
  Tensor x = at::randn({2, 100, 5});
  SiteNeeds needs;
  needs.channel_abs_max = true;
  SiteObserver observer("site", needs, 2);
  observer.observe(x);
  EXPECT_TRUE(at::equal(observer.statistics().channel_abs_max, x.abs().flatten(0, 1).amax(0)));
  x[1][99][2] = NAN;
  EXPECT_THROW(observer.observe(x), Error);
}

}  // namespace
}  // namespace ptq
