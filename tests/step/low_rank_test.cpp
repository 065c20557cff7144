// The step that puts low-rank terms beside a block's rounded weights.
#include <gtest/gtest.h>

#include "block_fixture.h"
#include "ptq/base/error.h"
#include "ptq/solve/low_rank.h"

namespace ptq {
namespace {

using testing::ToyLlama;

const NamedOptions kMxint3 = {"rtn", {{"format", "mxint"}, {"bits", 3}}};

NamedOptions low_rank(Json options) {
  if (!options.contains("rank")) options["rank"] = 4;
  return {"low_rank", std::move(options)};
}

BlockFixture llama(int64_t windows = 40) {
  const auto toy = testing::toy_llama(ToyLlama{48, 4, 2, 96});
  return BlockFixture(toy.tensors, toy.config, windows);
}

// The summed error of a block's layers.
double energy_after(const BlockFixture& fixture) {
  double energy = 0;
  for (const auto& [name, row] : fixture.corrections) energy += *row.energy_after;
  return energy;
}

TEST(LowRankStep, EveryVariantLowersTheErrorOfEveryLayerAndOfTheBlock) {
  BlockFixture base = llama();
  base.apply_all({kMxint3});
  for (const char* variant : {"exact", "approx", "lqer", "identity", "auto"}) {
    BlockFixture fixture = llama();
    fixture.apply_all({kMxint3, low_rank({{"variant", variant}})});
    EXPECT_EQ(fixture.corrections.size(), 7U) << variant;
    for (const auto& [name, row] : fixture.corrections) {
      EXPECT_EQ(row.rank, 4) << name;
      EXPECT_LT(row.energy_after, row.energy_before) << variant << " " << name;
      EXPECT_EQ(row.variant, std::string(variant) == "auto" ? "exact" : variant);
    }
    EXPECT_LT(fixture.change(), base.change()) << variant;
  }
}

TEST(LowRankStep, EnergiesAreThoseOfTheLayersOutputs) {
  BlockFixture fixture = llama();
  fixture.apply_all({kMxint3, low_rank({{"variant", "exact"}, {"shrinkage", .2}})});
  for (Linear* linear : fixture.block->linears()) {
    const Tensor& R = fixture.statistics.at(linear->site).second_moment.value();
    Tensor W;
    for (Sublayer& sublayer : fixture.rewritten) {
      for (const Linear* original : sublayer.linears()) {
        if (original->name == linear->name) W = original->weight.values().to(at::kDouble);
      }
    }
    const Tensor D = W - linear->weight.values();
    const CorrectionRow& row = fixture.corrections.at(linear->name);
    EXPECT_NEAR(*row.energy_before / output_energy(D, R), 1, 1e-6) << linear->name;
    EXPECT_NEAR(*row.energy_after / output_energy(D - linear->correction->product(), R), 1, 1e-6)
        << linear->name;
  }
}

TEST(LowRankStep, WorksInTheRotatedBasisOfABase) {
  const std::vector<NamedOptions> rotated = {
      {"rotate", {{"kind", "hadamard"}, {"block", 16}}}, {"zigzag", {{"block", 16}}}, kMxint3};
  BlockFixture base = llama(), fixture = llama();
  base.apply_all(rotated);
  std::vector<NamedOptions> corrected = rotated;
  corrected.push_back(low_rank({{"rank", 8}}));
  fixture.apply_all(corrected);
  EXPECT_LT(fixture.change(), base.change());
  for (const auto& [name, row] : fixture.corrections) EXPECT_LT(row.energy_after, row.energy_before) << name;
}

TEST(LowRankStep, RanksAndLayersAreChosenByPattern) {
  BlockFixture fixture = llama();
  fixture.apply_all(
      {kMxint3,
       low_rank({{"rank", 3}, {"ranks", {{"*.down_proj", 7}}}, {"linears", {"*.down_proj", "*.o_proj"}}})});
  ASSERT_EQ(fixture.corrections.size(), 2U);
  EXPECT_EQ(fixture.linear("down_proj").correction->rank(), 7);
  EXPECT_EQ(fixture.linear("o_proj").correction->rank(), 3);
  EXPECT_FALSE(fixture.linear("q_proj").correction.has_value());
}

TEST(LowRankStep, FloatLayersGetNoCorrection) {
  BlockFixture fixture = llama();
  fixture.apply_all({kMxint3, low_rank({})}, {},
                    [](const std::string& name) { return name.ends_with("q_proj"); });
  EXPECT_FALSE(fixture.linear("q_proj").correction.has_value());
  EXPECT_TRUE(fixture.linear("k_proj").correction.has_value());
}

TEST(LowRankStep, StoredDtypesCostWhatTheySayAndLittleAccuracy) {
  double bf16 = 0;
  for (const auto& [stored, item] : {std::pair{"bf16", 2}, {"f16", 2}, {"int8", 1}}) {
    BlockFixture fixture = llama();
    fixture.apply_all({kMxint3, low_rank({{"stored", stored}})});
    const Linear& linear = fixture.linear("o_proj");
    const int64_t scales = item == 1 ? 4 * 2 * 4 : 0;
    EXPECT_EQ(linear.correction->bytes(), 4 * (48 + 48) * item + scales) << stored;
    const double after = *fixture.corrections.at(linear.name).energy_after;
    if (bf16 == 0) bf16 = after;
    EXPECT_NEAR(after / bf16, 1, .02) << stored;
  }
}

TEST(LowRankStep, AlternationLeavesLessThanOneRound) {
  for (const char* rounding : {"nearest", "gptq"}) {
    BlockFixture once = llama(), often = llama();
    once.apply_all({kMxint3, low_rank({})});
    often.apply_all({kMxint3, low_rank({{"rounds", 5}, {"rounding", rounding}})});
    EXPECT_LT(energy_after(often), energy_after(once)) << rounding;
  }
}

TEST(LowRankStep, EnergyBeforeIsThatOfTheBaseWhateverAlternationHasDone) {
  BlockFixture once = llama(), often = llama();
  once.apply_all({kMxint3, low_rank({})});
  often.apply_all({kMxint3, low_rank({{"rounds", 5}})});
  int64_t alternated = 0;
  for (const auto& [name, row] : often.corrections) {
    EXPECT_NEAR(*row.energy_before / *once.corrections.at(name).energy_before, 1, 1e-5) << name;
    alternated += row.rounds > 1 ? 1 : 0;
  }
  EXPECT_GT(alternated, 0);
}

TEST(LowRankStep, AlternationUnderABudgetLeavesLess) {
  for (const char* variant : {"exact", "auto"}) {
    BlockFixture once = llama(), often = llama();
    once.apply_all({kMxint3, low_rank({{"variant", variant}, {"target_bpw", 5}})});
    often.apply_all({kMxint3, low_rank({{"variant", variant}, {"target_bpw", 5}, {"rounds", 4}})});
    EXPECT_LT(energy_after(often), energy_after(once)) << variant;
    for (const auto& [name, row] : often.corrections) EXPECT_EQ(row.rank, once.corrections.at(name).rank);
  }
}

// The identity does not look at inputs, so the shares must not do so either.
TEST(LowRankStep, SharesOfABudgetAreMeasuredByTheMetricOfTheVariant) {
  auto toy = testing::toy_llama(ToyLlama{48, 4, 2, 96});
  BlockFixture fixture(toy.tensors, toy.config, 40);
  toy.tensors.at("model.layers.0.post_attention_layernorm.weight").mul_(0.01);
  BlockFixture small_inputs(toy.tensors, toy.config, 40);
  for (BlockFixture* each : {&fixture, &small_inputs})
    each->apply_all({kMxint3, low_rank({{"variant", "identity"}, {"target_bpw", 6}})});
  int64_t ranks = 0;
  for (const auto& [name, row] : fixture.corrections) {
    EXPECT_EQ(row.rank, small_inputs.corrections.at(name).rank) << name;
    ranks += row.rank;
  }
  EXPECT_GT(ranks, 10);
}

TEST(LowRankStep, BudgetBelowTheBaseIsRefused) {
  BlockFixture fixture = llama();
  try {
    fixture.apply_all({kMxint3, low_rank({{"target_bpw", 3}})});
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("3.00 bits a weight are fewer than the 3.33"), std::string::npos)
        << error.what();
  }
}

class Budget : public ::testing::TestWithParam<int> {};

TEST_P(Budget, IsKeptAndUsedInEverySublayer) {
  BlockFixture fixture = llama();
  const double target = 6;
  fixture.apply_all({kMxint3, low_rank({{"target_bpw", target}, {"rounds", GetParam()}})});
  for (Sublayer& sublayer : fixture.block->sublayers()) {
    double bits = 0, weights = 0, largest_step = 0;
    for (const Linear* linear : sublayer.linears()) {
      const int64_t out = linear->weight.size(0), in = linear->weight.size(1);
      const double numel = static_cast<double>(out * in);
      bits += linear->weight.quantized()->scheme.bits_per_weight(out, in) * numel;
      if (linear->correction) bits += 8 * static_cast<double>(linear->correction->bytes());
      weights += numel;
      largest_step = std::max(largest_step, 16 * static_cast<double>(out + in));
    }
    EXPECT_LE(bits, target * weights);
    EXPECT_GT(bits, target * weights - largest_step);
  }
}

INSTANTIATE_TEST_SUITE_P(LowRankStep, Budget, ::testing::Values(1, 4));

TEST(LowRankStep, TooFewTokensAreAWarningWithTheNumberWanted) {
  BlockFixture fixture = llama(/*windows=*/4);
  fixture.apply_all({kMxint3, low_rank({})});
  ASSERT_FALSE(fixture.warnings.empty());
  EXPECT_NE(fixture.warnings[0].find("64 calibration tokens for the 48 inputs"), std::string::npos)
      << fixture.warnings[0];
  EXPECT_NE(fixture.warnings[0].find("at least 96"), std::string::npos);
}

TEST(LowRankStep, ABetterBaseOfEqualBytesIsNamed) {
  BlockFixture fixture = llama();
  fixture.apply_all({kMxint3, low_rank({{"rank", 12}})});
  const CorrectionRow& row = fixture.corrections.at(fixture.linear("o_proj").name);
  ASSERT_TRUE(row.better_base);  // 12 of 48 ranks cost 8 bits a weight
  EXPECT_LT(row.better_base->energy, *row.energy_after);
  EXPECT_LE(row.better_base->bits_per_weight, 3.25 + row.bits_per_weight);
}

}  // namespace
}  // namespace ptq
