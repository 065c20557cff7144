// Which token comes next.
#include "ptq/engine/sampling.h"

#include <gtest/gtest.h>

#include <set>

namespace ptq {
namespace {

TEST(Sample, ZeroTemperatureTakesTheLargestLogit) {
  const Tensor logits = at::tensor({0.F, 3.F, 1.F, 5.F, -1.F, 2.F}).reshape({2, 3});
  EXPECT_TRUE(at::equal(sample(logits, 0, 1, 0), at::tensor({1, 0}).to(at::kLong).reshape({2, 1})));
}

TEST(Sample, FollowsTheDistributionAndTheSeed) {
  const Tensor logits = at::tensor({0.F, 1.F, 2.F}).reshape({1, 3}).expand({3000, 3});
  const Tensor ids = sample(logits, 1, 5, 0);
  const Tensor frequencies = at::bincount(ids.flatten(), {}, 3).to(at::kFloat) / 3000;
  EXPECT_TRUE(at::allclose(frequencies, at::softmax(logits[0], 0), 0, 0.04));
  EXPECT_TRUE(at::equal(sample(logits, 1, 5, 0), ids));
  EXPECT_FALSE(at::equal(sample(logits, 1, 6, 0), ids));
  EXPECT_FALSE(at::equal(sample(logits, 1, 5, 1), ids));
  // A row's draw does not depend on how many rows there are.
  EXPECT_TRUE(at::equal(sample(logits.slice(0, 0, 10), 1, 5, 0), ids.slice(0, 0, 10)));
}

Tensor some_logits() {
  return at::sin(at::arange(50, at::kFloat) * 7) * 3;
}

SamplingOptions with_temperature(double temperature) {
  SamplingOptions options;
  options.temperature = temperature;
  return options;
}

// The tokens that come up in many draws.
std::set<int64_t> drawn(const SamplingOptions& options, at::IntArrayRef seen = {}) {
  std::set<int64_t> ids;
  for (int64_t position = 0; position < 400; ++position)
    ids.insert(sample_one(some_logits(), seen, options, 0, position));
  return ids;
}

// Those whose logit is finite.
std::vector<int64_t> kept(const Tensor& logits, const SamplingOptions& options) {
  const Tensor ids = at::isfinite(filtered_logits(logits, {}, options)).nonzero().flatten();
  return {ids.data_ptr<int64_t>(), ids.data_ptr<int64_t>() + ids.numel()};
}

TEST(SampleOne, FiltersThatKeepOneTokenGiveTheGreedyOne) {
  const int64_t greedy = some_logits().argmax().item<int64_t>();
  const SamplingOptions free = with_temperature(2);
  SamplingOptions top_k = free, top_p = free, min_p = free;
  top_k.top_k = 1;
  top_p.top_p = 1e-9;
  min_p.min_p = 1;
  EXPECT_GT(drawn(free).size(), 20U);
  for (const SamplingOptions& options : {SamplingOptions(), top_k, top_p, min_p})
    EXPECT_EQ(drawn(options), std::set<int64_t>{greedy});
}

TEST(SampleOne, IsTheRowOfABatchWithTheSameNumber) {
  const Tensor logits = some_logits().unsqueeze(0).expand({6, 50});
  const Tensor batch = sample(logits, 1.5, 9, 4);
  SamplingOptions options = with_temperature(1.5);
  options.seed = 9;
  for (int64_t row = 0; row < 6; ++row)
    EXPECT_EQ(sample_one(some_logits(), {}, options, row, 4), batch[row].item<int64_t>());
}

TEST(SampleOne, SeedRowAndPositionDecideTheDraw) {
  SamplingOptions options = with_temperature(3), other = options;
  other.seed = 1;
  std::set<int64_t> rows, positions, seeds;
  for (int64_t i = 0; i < 20; ++i) {
    EXPECT_EQ(sample_one(some_logits(), {}, options, 2, i), sample_one(some_logits(), {}, options, 2, i));
    rows.insert(sample_one(some_logits(), {}, options, i, 0));
    positions.insert(sample_one(some_logits(), {}, options, 0, i));
    other.seed = static_cast<uint64_t>(i);
    seeds.insert(sample_one(some_logits(), {}, other, 0, 0));
  }
  for (const auto& ids : {rows, positions, seeds}) EXPECT_GT(ids.size(), 5U);
}

TEST(FilteredLogits, TopKKeepsTheLargestAndTheirEquals) {
  const Tensor logits = at::tensor({1.F, 4.F, 2.F, 2.F, 0.F});
  SamplingOptions options = with_temperature(1);
  options.top_k = 2;
  EXPECT_EQ(kept(logits, options), (std::vector<int64_t>{1, 2, 3}));
  options.top_k = 9;
  EXPECT_EQ(kept(logits, options).size(), 5U);
}

// Probabilities .5, .25, .125, .125.
TEST(FilteredLogits, TopPKeepsTokensUntilTheirSumIsReached) {
  const Tensor logits = at::tensor({2.F, 8.F, 4.F, 2.F}).log();
  SamplingOptions options = with_temperature(1);
  for (const auto& [top_p, count] : {std::pair(0.4, 1U), {0.6, 2U}, {0.8, 3U}, {0.9, 4U}, {1.0, 4U}}) {
    options.top_p = top_p;
    EXPECT_EQ(kept(logits, options).size(), count) << top_p;
  }
}

TEST(FilteredLogits, MinPIsAShareOfTheLikeliest) {
  const Tensor logits = at::tensor({2.F, 8.F, 4.F, 2.F}).log();
  SamplingOptions options = with_temperature(1);
  for (const auto& [min_p, count] : {std::pair(0.2, 4U), {0.3, 2U}, {0.6, 1U}, {0.0, 4U}}) {
    options.min_p = min_p;
    EXPECT_EQ(kept(logits, options).size(), count) << min_p;
  }
}

TEST(FilteredLogits, TopPCountsWhatTopKHasKeptAndTemperatureHasMade) {
  const Tensor logits = at::tensor({2.F, 8.F, 4.F, 2.F}).log();
  SamplingOptions options = with_temperature(1);
  options.top_k = 2;  // 2/3, 1/3
  options.top_p = 0.6;
  EXPECT_EQ(kept(logits, options), std::vector<int64_t>{1});
  options.top_k = 0;
  options.temperature = 0.5;  // 64, 16, 4, 4 of 88
  EXPECT_EQ(kept(logits, options), std::vector<int64_t>{1});
}

TEST(FilteredLogits, PenaltyLowersEveryTokenSeenOnce) {
  const Tensor logits = at::tensor({3.F, -1.F, 2.F});
  SamplingOptions options = with_temperature(1);
  options.repetition_penalty = 2;
  const std::vector<int64_t> seen = {0, 1, 0};
  EXPECT_TRUE(at::equal(filtered_logits(logits, seen, options), at::tensor({1.5F, -2.F, 2.F})));
  EXPECT_TRUE(at::equal(filtered_logits(logits, {}, options), logits));
}

TEST(SampleOne, PenaltyTurnsARepeatedTokenIntoAnother) {
  const Tensor logits = at::tensor({3.F, -1.F, 2.F});
  SamplingOptions options;
  options.repetition_penalty = 2;
  EXPECT_EQ(sample_one(logits, {1}, options, 0, 0), 0);
  EXPECT_EQ(sample_one(logits, {0}, options, 0, 0), 2);
}

}  // namespace
}  // namespace ptq
