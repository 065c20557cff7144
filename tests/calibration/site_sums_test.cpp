// What is summed up of one site: largest magnitudes, percentiles per window and over all, maxima of channels,
// moments; and the same from pieces.
#include "ptq/calibration/site_sums.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "../base/expect_error.h"
#include "needs.h"

namespace ptq {
namespace {

TEST(SiteSums, MovingPercentileFollowsSamplesInOrder) {
  at::manual_seed(2);
  const Tensor x = at::randn({6, 10, 30}) * at::arange(1, 7).reshape({6, 1, 1});
  SiteSums sums("site", percentiles({.9, .99}, PercentileMode::kMoving), {6, 2});
  sums.add(x.slice(0, 0, 4));
  sums.add(x.slice(0, 4, 6));
  for (const double p : {.9, .99}) {
    float value = 0;
    for (int64_t i = 0; i < 6; ++i) {
      const auto c = x[i].abs().flatten().quantile(p).item<float>();
      value = i == 0 ? c : value + 0.01F * (c - value);
    }
    EXPECT_FLOAT_EQ(static_cast<float>(sums.finish().percentiles.at(p)), value);
  }
}

TEST(SiteSums, MovingPercentileDependsOnTheOrderTheExactOneDoesNot) {
  at::manual_seed(3);
  const Tensor x = at::randn({4, 5, 20}) * at::tensor({1.F, 5.F, 2.F, 9.F}).reshape({4, 1, 1});
  const auto value = [&](PercentileMode mode, const Tensor& samples) {
    SiteSums sums("site", percentiles({.95}, mode), {4, 1});
    sums.add(samples);
    return sums.finish().percentiles.at(.95);
  };
  EXPECT_NE(value(PercentileMode::kMoving, x), value(PercentileMode::kMoving, x.flip(0)));
  EXPECT_EQ(value(PercentileMode::kExact, x), value(PercentileMode::kExact, x.flip(0)));
}

TEST(SiteSums, ExactPercentileIsTheQuantileOfAllValuesInAnyBatches) {
  at::manual_seed(4);
  const Tensor x = at::randn({8, 16, 25}) * at::arange(1, 9).reshape({8, 1, 1});
  for (const int64_t batch : {1, 3, 8}) {
    SiteSums sums("site", percentiles({.5, .99, .9999}, PercentileMode::kExact),
                  {8, (8 + batch - 1) / batch});
    for (int64_t i = 0; i < 8; i += batch) sums.add(x.slice(0, i, std::min<int64_t>(8, i + batch)));
    for (const double p : {.5, .99, .9999}) {
      EXPECT_EQ(static_cast<float>(sums.finish().percentiles.at(p)),
                x.abs().flatten().quantile(p).item<float>())
          << batch << " " << p;
    }
  }
}

TEST(SiteSums, MaximaAreThoseOfAllSamples) {
  at::manual_seed(5);
  const Tensor x = at::randn({7, 9, 11});
  SiteNeeds needs;
  needs.abs_max = true;
  needs.channel_abs_max = true;
  SiteSums sums("site", needs, {7, 2});
  sums.add(x.slice(0, 0, 5));
  sums.add(x.slice(0, 5, 7));
  const SiteStatistics statistics = sums.finish();
  EXPECT_EQ(statistics.abs_max, x.abs().max().item<double>());
  EXPECT_TRUE(at::equal(statistics.channel_abs_max, x.abs().amax({0, 1})));
}

TEST(SiteSums, NanOrInfiniteActivationsAreAnErrorThatNamesTheSite) {
  std::vector<SiteNeeds> all(5);
  all[0].abs_max = true;
  all[1].channel_abs_max = true;
  all[2].channel_mean_abs = true;
  all[3].samples = 3;
  all[4].second_moment = true;
  for (const SiteNeeds& needs : all) {
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), -INFINITY}) {
      SiteSums sums("layers.3.ssm.x", needs, {1, 1});
      Tensor x = at::ones({1, 3, 40});
      x[0][1][20] = bad;
      EXPECT_ERROR(sums.add(x), ExitCode::kFailed, "layers.3.ssm.x");
    }
  }
}

TEST(SiteSums, GathersTheFirstTokensAndTheSecondMomentOfAll) {
  at::manual_seed(5);
  const Tensor x = at::randn({6, 7, 5});
  SiteNeeds needs;
  needs.samples = 10;
  needs.second_moment = true;
  SiteSums sums("site", needs, {6, 2});
  sums.add(x.slice(0, 0, 1));
  sums.add(x.slice(0, 1, 6));
  const SiteStatistics statistics = sums.finish();
  const Tensor rows = x.flatten(0, 1);
  EXPECT_TRUE(at::equal(statistics.samples, rows.slice(0, 0, 10)));
  EXPECT_TRUE(
      at::allclose(statistics.second_moment.value(), at::matmul(rows.t(), rows).to(at::kDouble) / 42, 1e-5));
}

TEST(SiteSums, ChannelMaximaOfManyRowsKeepNan) {
  at::manual_seed(8);
  Tensor x = at::randn({2, 100, 5});
  SiteNeeds needs;
  needs.channel_abs_max = true;
  SiteSums sums("site", needs, {4, 2});
  sums.add(x);
  EXPECT_TRUE(at::equal(sums.finish().channel_abs_max, x.abs().flatten(0, 1).amax(0)));
  x[1][99][2] = NAN;
  EXPECT_THROW(sums.add(x), Error);
}

// All that can be measured of a site.
SiteNeeds everything(PercentileMode mode) {
  SiteNeeds needs = percentiles({.5, .9, .99}, mode);
  needs.abs_max = true;
  needs.channel_abs_max = true;
  needs.channel_mean_abs = true;
  needs.samples = 25;
  needs.second_moment = true;
  return needs;
}

void expect_same_bits(const SiteStatistics& got, const SiteStatistics& expected) {
  EXPECT_EQ(got.abs_max, expected.abs_max);
  EXPECT_TRUE(at::equal(got.channel_abs_max, expected.channel_abs_max));
  EXPECT_TRUE(at::equal(got.channel_mean_abs, expected.channel_mean_abs));
  EXPECT_TRUE(at::equal(got.second_moment.value(), expected.second_moment.value()));
  EXPECT_TRUE(at::equal(got.samples, expected.samples));
  EXPECT_EQ(got.percentiles, expected.percentiles);
  EXPECT_EQ(got.tokens, expected.tokens);
}

// Batches of two windows of three tokens, of very different sizes, so that sums depend on their order.
class Windows {
 public:
  explicit Windows(int64_t batches)
      : batches_{2 * batches, batches},
        x_(at::randn({2 * batches, 3, 5}) * at::randn({2 * batches, 1, 1}).mul(4).exp()) {}

  // Of the batches [begin, end).
  SiteSums piece(const SiteNeeds& needs, int64_t begin, int64_t end) const {
    SiteSums sums("site", needs, batches_, begin);
    add(sums, begin, end);
    return sums;
  }
  void add(SiteSums& sums, int64_t begin, int64_t end) const {
    for (int64_t b = begin; b < end; ++b) sums.add(x_.slice(0, 2 * b, 2 * b + 2));
  }
  // Where lanes begin, and the end.
  std::vector<int64_t> boundaries() const {
    std::vector<int64_t> all = {0};
    for (int64_t b = 1; b < batches_.count; ++b) {
      if (b * LaneSum::kLanes / batches_.count != (b - 1) * LaneSum::kLanes / batches_.count)
        all.push_back(b);
    }
    all.push_back(batches_.count);
    return all;
  }

 private:
  Batches batches_;
  Tensor x_;
};

constexpr PercentileMode kModes[] = {PercentileMode::kMoving, PercentileMode::kExact};

class MergedSums : public ::testing::TestWithParam<int64_t> {};

TEST_P(MergedSums, TwoPiecesCutBetweenLanesGiveTheBitsOfOne) {
  at::manual_seed(9);
  const Windows windows(GetParam());
  const std::vector<int64_t> cuts = windows.boundaries();
  EXPECT_EQ(cuts.size(), static_cast<size_t>(std::min(GetParam(), LaneSum::kLanes)) + 1);
  for (const PercentileMode mode : kModes) {
    const SiteNeeds needs = everything(mode);
    const SiteStatistics whole = windows.piece(needs, 0, GetParam()).finish();
    for (size_t i = 1; i + 1 < cuts.size(); ++i) {
      SCOPED_TRACE(cuts[i]);
      SiteSums sums = windows.piece(needs, 0, cuts[i]);
      sums.merge(windows.piece(needs, cuts[i], GetParam()));
      expect_same_bits(sums.finish(), whole);
    }
  }
}

TEST_P(MergedSums, APieceForEachLaneGivesTheBitsOfOneInEitherOrderOfMerging) {
  at::manual_seed(10);
  const Windows windows(GetParam());
  const std::vector<int64_t> cuts = windows.boundaries();
  for (const PercentileMode mode : kModes) {
    const SiteNeeds needs = everything(mode);
    const SiteStatistics whole = windows.piece(needs, 0, GetParam()).finish();
    const auto pieces = [&] {
      std::vector<SiteSums> lanes;
      for (size_t i = 0; i + 1 < cuts.size(); ++i)
        lanes.push_back(windows.piece(needs, cuts[i], cuts[i + 1]));
      return lanes;
    };
    std::vector<SiteSums> forward = pieces(), backward = pieces();
    for (size_t i = 1; i < forward.size(); ++i) forward.front().merge(forward[i]);
    expect_same_bits(forward.front().finish(), whole);
    for (size_t i = backward.size() - 1; i > 0; --i) backward[i - 1].merge(backward[i]);
    expect_same_bits(backward.front().finish(), whole);
  }
}

TEST_P(MergedSums, PackedPiecesOfSeveralProcessesGiveTheBitsOfOne) {
  at::manual_seed(12);
  const Windows windows(GetParam());
  std::vector<int64_t> cuts = windows.boundaries();
  cuts.insert(cuts.begin(), 0);  // of a process without windows
  cuts.push_back(GetParam());
  for (const PercentileMode mode : kModes) {
    const SiteNeeds needs = everything(mode);
    Parcel sent = windows.piece(needs, 0, cuts[1]).pack();
    for (size_t i = 1; i + 1 < cuts.size(); ++i) {
      SiteSums own = windows.piece(needs, cuts[i], cuts[i + 1]);
      own.put_behind(sent);
      sent = own.pack();
    }
    SiteSums all = windows.piece(needs, 0, 0);
    all.unpack(sent);
    expect_same_bits(all.finish(), windows.piece(needs, 0, GetParam()).finish());
  }
}

INSTANTIATE_TEST_SUITE_P(Batches, MergedSums, ::testing::Values(3, 8, 9, 16, 20, 64));

TEST(MergedSums, BatchesThatComeAfterAMergeGiveTheBitsOfOnePiece) {
  at::manual_seed(11);
  const Windows windows(16);
  const SiteNeeds needs = everything(PercentileMode::kMoving);
  SiteSums sums = windows.piece(needs, 0, 4);
  sums.merge(windows.piece(needs, 4, 6));
  windows.add(sums, 6, 10);
  sums.merge(windows.piece(needs, 10, 16));
  expect_same_bits(sums.finish(), windows.piece(needs, 0, 16).finish());
}

TEST(MergedSums, PieceThatCutsALaneIsAnError) {
  at::manual_seed(12);
  const Windows windows(16);  // two batches a lane
  for (const bool moment : {false, true}) {
    SiteNeeds needs;
    needs.channel_mean_abs = !moment;
    needs.second_moment = moment;
    for (const int64_t cut : {1, 3, 15}) {
      EXPECT_THROW(windows.piece(needs, 0, cut).merge(windows.piece(needs, cut, cut)), c10::Error)
          << cut << moment;
    }
  }
}

TEST(MergedSums, PieceThatDoesNotFollowIsAnError) {
  at::manual_seed(13);
  const Windows windows(16);
  for (const bool moment : {false, true}) {
    SiteNeeds needs;
    needs.channel_mean_abs = !moment;
    needs.second_moment = moment;
    for (const int64_t begin : {2, 6}) {  // overlaps, leaves a gap
      EXPECT_THROW(windows.piece(needs, 0, 4).merge(windows.piece(needs, begin, 16)), c10::Error)
          << begin << moment;
    }
  }
}

TEST(Batches, AreAsManyAsTheTokensOfAllWindowsFill) {
  EXPECT_EQ(Batches::of(13, 512).count, 4);
  EXPECT_EQ(Batches::of(13, 512).windows, 13);
  EXPECT_EQ(Batches::of(8, 512).count, 2);
  EXPECT_EQ(Batches::of(3, 100'000).count, 3);
  EXPECT_EQ(Batches::of(0, 512).count, 0);
}

TEST(StatisticsObserver, MeasuresTheSitesThatAreAskedForAndNamesThemInErrors) {
  Needs needs;
  needs["ssm.x"].abs_max = true;
  StatisticsObserver observer("layers.3", needs, {2, 2});
  Site asked, other;
  asked.name = "ssm.x";
  other.name = "ssm.dt";
  observer.observe(asked, at::full({1, 2, 3}, -2.0F));
  observer.observe(other, at::full({1, 2, 3}, 7.0F));
  observer.observe(asked, at::full({1, 2, 3}, 1.0F));
  const Statistics statistics = observer.finish();
  ASSERT_EQ(statistics.size(), 1U);
  EXPECT_EQ(statistics.at("ssm.x").abs_max, 2);
  EXPECT_EQ(statistics.at("ssm.x").tokens, 4);
  EXPECT_ERROR(observer.observe(asked, at::full({1, 2, 3}, INFINITY)), ExitCode::kFailed, "layers.3.ssm.x");
}

}  // namespace
}  // namespace ptq
