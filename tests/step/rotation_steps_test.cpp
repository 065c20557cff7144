// The rewrites of transformers on small Llamas: smooth, rotate, zigzag, qk_hadamard, and their chain.
#include <gtest/gtest.h>

#include <set>

#include "../base/expect_error.h"
#include "block_fixture.h"
#include "ptq/ops/ops.h"
#include "ptq/step/rewrites.h"

namespace ptq {
namespace {

using testing::ToyLlama;

// Grouped queries, heads that are no power of two, biases, norms of queries and keys.
const ToyLlama kSizes[] = {
    {},
    {.hidden = 32, .heads = 4, .kv_heads = 2, .intermediate = 64, .biases = true, .seed = 2},
    {.hidden = 48, .heads = 4, .kv_heads = 4, .intermediate = 80, .tied = false, .seed = 3},
    {.hidden = 24,
     .heads = 3,
     .kv_heads = 1,
     .intermediate = 40,
     .head_dim = 16,
     .qk_norm = true,
     .seed = 4}};

const NamedOptions kRewrites[] = {{"smooth", {{"alpha", 0.6}, {"floor", 0.01}, {"columns", "first"}}},
                                  {"rotate", {{"kind", "hadamard"}}},
                                  {"rotate", {{"kind", "hadamard"}, {"signs", "random"}}},
                                  {"rotate", {{"kind", "hadamard"}, {"block", 4}}},
                                  {"rotate", {{"kind", "greedy"}}},
                                  {"rotate", {{"kind", "greedy"}, {"signs", "random"}, {"peak", "range"}}},
                                  {"rotate", {{"kind", "auto"}}},
                                  {"rotate", {{"kind", "auto"}, {"signs", "random"}}},
                                  {"rotate", {{"kind", "greedy"}, {"sites", "down.input"}}},
                                  {"zigzag"},
                                  {"zigzag", {{"block", 2}, {"samples", 7}}},
                                  {"qk_hadamard"}};

// As DuQuant does it.
std::vector<NamedOptions> chain(const char* kind) {
  return {{"smooth", {{"alpha", 0.6}, {"floor", 0.01}, {"columns", "first"}}},
          {"rotate", {{"kind", kind}, {"signs", "random"}}},
          {"zigzag"},
          {"rotate", {{"kind", kind}, {"seed", 1}}},
          {"qk_hadamard"}};
}

std::string text_of(BlockFixture& fixture, const std::string& site) {
  return transform_text(fixture.block->site(site).transform);
}

TEST(LlamaRewrites, LeaveTheBlocksOutputUnchangedAndDoSomething) {
  for (const ToyLlama& sizes : kSizes) {
    for (const auto& [name, options] : kRewrites) {
      SCOPED_TRACE(name + options.dump() + std::to_string(sizes.seed));
      LlamaFixture fixture(sizes);
      const auto clone = testing::clone_of(*fixture.block);
      const auto before = clone->weights();
      fixture.apply(name, options);
      EXPECT_LT(fixture.change(), 1e-5);
      bool changed = false;
      for (const Site* site : fixture.block->sites()) changed |= !site->transform.empty();
      const auto after = fixture.block->weights();
      for (size_t i = 0; i < after.size(); ++i)
        changed |= !at::equal(before[i]->values(), after[i]->values());
      EXPECT_TRUE(changed);
      // A clone made before shares tensors, and is as it was.
      EXPECT_TRUE(at::equal(outputs_of(*clone, fixture.inputs), fixture.outputs));
    }
  }
}

TEST(LlamaRewrites, ChainLeavesTheBlocksOutputUnchanged) {
  for (const ToyLlama& sizes : kSizes) {
    for (const char* kind : {"hadamard", "greedy", "auto"}) {
      LlamaFixture fixture(sizes);
      fixture.apply_all(chain(kind));
      EXPECT_LT(fixture.change(), 1e-5) << kind << sizes.seed;
      EXPECT_EQ(fixture.block->site("qkv.input").transform.stages.size(), 4U);
      EXPECT_EQ(fixture.block->site("attn.q").transform.stages.size(), 1U);
      EXPECT_TRUE(fixture.block->site("attn.v").transform.empty());
    }
  }
}

TEST(LlamaRewrites, StatisticsCarriedThroughTheChainAreThoseOfTheTransformedValues) {
  for (const char* kind : {"hadamard", "greedy"}) {
    LlamaFixture fixture(kSizes[1]);
    Needs more;
    for (const std::string& site : fixture.linear_inputs()) {
      more[site].second_moment = true;
      more[site].samples = 50;
    }
    fixture.apply_all(chain(kind), more);
    for (const std::string& name : fixture.linear_inputs()) {
      const Site& site = fixture.block->site(name);
      const SiteStatistics &before = fixture.measured.at(name), &after = fixture.statistics.at(name);
      const Tensor expected = site.transform.apply(before.samples / site.smooth);
      EXPECT_TRUE(at::allclose(after.samples, expected, 1e-5, 1e-5)) << name;
      // And those of the rewritten block, if it is measured again.
      LlamaFixture again(kSizes[1]);
      again.block = testing::clone_of(*fixture.block);
      again.measure({{name, more.at(name)}});
      const SiteStatistics& fresh = again.statistics.at(name);
      EXPECT_TRUE(at::allclose(after.samples.slice(0, 0, 50), fresh.samples, 1e-3, 1e-4)) << name;
      EXPECT_TRUE(at::allclose(after.second_moment.value(), fresh.second_moment.value(), 1e-3, 1e-3)) << name;
    }
  }
}

TEST(SmoothStep, FirstColumnsAreThoseOfQueriesAndOfUp) {
  for (const bool first : {false, true}) {
    for (const double floor : {1e-5, 0.5}) {
      LlamaFixture fixture(kSizes[2]);
      const auto weights = testing::clone_of(*fixture.block);
      fixture.apply("smooth", {{"alpha", 0.6}, {"columns", first ? "first" : "all"}, {"floor", floor}});
      const std::vector<std::pair<const char*, std::vector<const char*>>> sites = {
          {"qkv.input", {"q_proj", "k_proj", "v_proj"}},
          {"o.input", {"o_proj"}},
          {"gate_up.input", {"up_proj", "gate_proj"}},
          {"down.input", {"down_proj"}}};
      for (const auto& [site, readers] : sites) {
        Tensor columns;
        for (const Linear* linear : weights->linears()) {
          const size_t count = first ? 1 : readers.size();
          for (size_t i = 0; i < count; ++i) {
            if (!linear->name.ends_with(readers[i])) continue;
            const Tensor maxima = linear->weight.values().abs().amax(0);
            columns = columns.defined() ? at::maximum(columns, maxima) : maxima;
          }
        }
        const Tensor a = fixture.measured.at(site).channel_abs_max;
        const Tensor expected = smoothing_scales(a, columns, 0.6, floor);
        EXPECT_TRUE(at::allclose(fixture.block->site(site).smooth, expected, 1e-5, 1e-6)) << site << first;
        EXPECT_GE(fixture.block->site(site).smooth.min().item<double>(), floor);
      }
      EXPECT_LT(fixture.change(), 1e-5);
    }
  }
}

TEST(SmoothStep, ChannelsOfOneValueRowShareTheLargestScale) {
  const ToyLlama& sizes = kSizes[1];  // two queries to a key
  LlamaFixture fixture(sizes);
  const Tensor columns = fixture.linear("o_proj").weight.values().abs().amax(0);
  fixture.apply("smooth", {{"alpha", 0.5}});
  const Tensor alone = smoothing_scales(fixture.measured.at("o.input").channel_abs_max, columns, 0.5);
  const Tensor largest = alone.reshape({2, 2, 8}).amax(1, /*keepdim=*/true).expand({2, 2, 8}).flatten();
  EXPECT_FALSE(at::equal(alone, largest));
  EXPECT_TRUE(at::allclose(fixture.block->site("o.input").smooth, largest, 1e-6, 0));
}

TEST(SmoothStep, BehindATransformOfItsSiteIsAUsageError) {
  LlamaFixture fixture;
  fixture.apply("rotate", {{"sites", "gate_up.input"}});
  EXPECT_ERROR(fixture.apply("smooth", Json::object()), ExitCode::kUsage, "gate_up.input");
  EXPECT_LT(fixture.change(), 1e-5);
}

TEST(RotateStep, RotatesInTheLargestPowerOfTwoThatDividesAndRemarksSmallOnes) {
  LlamaFixture fixture(kSizes[1]);  // 32 and 64 channels
  fixture.apply("rotate", Json::object());
  EXPECT_EQ(text_of(fixture, "qkv.input"), "hadamard(32)");
  EXPECT_EQ(text_of(fixture, "down.input"), "hadamard(64)");
  EXPECT_TRUE(fixture.remarks.fallbacks.empty());
  LlamaFixture small;  // 24 and 40
  small.apply("rotate", {{"kind", "greedy"}});
  EXPECT_EQ(text_of(small, "qkv.input"), "rotation(8)");
  EXPECT_EQ(text_of(small, "down.input"), "rotation(8)");
  ASSERT_EQ(small.remarks.fallbacks.size(), 4U);
  EXPECT_TRUE(small.remarks.fallbacks[0].where.ends_with("qkv.input"));
  EXPECT_EQ(small.remarks.fallbacks[0].what, "rotated in blocks of 8 only");
}

TEST(RotateStep, GreedyLowersThePeakOfEverySite) {
  for (const ToyLlama& sizes : kSizes) {
    LlamaFixture fixture(sizes);
    fixture.apply("rotate", {{"kind", "greedy"}});
    for (const std::string& name : fixture.linear_inputs()) {
      const Tensor before = fixture.measured.at(name).samples, after = fixture.statistics.at(name).samples;
      EXPECT_LT(after.abs().max().item<float>(), before.abs().max().item<float>()) << name;
      const auto rotation = std::get<BlockRotation>(fixture.block->site(name).transform.stages.at(0));
      EXPECT_GT(rotation.steps, 0) << name;
      EXPECT_LT(fixture.block->site(name).transform.orthogonality_error(), 1e-6);
    }
  }
}

TEST(RotateStep, DrawsFromTheSeedAndTheSite) {
  const auto signs = [](int64_t seed, const char* site) {
    LlamaFixture fixture(kSizes[2]);
    fixture.apply("rotate", {{"signs", "random"}, {"seed", seed}});
    return std::get<Signs>(fixture.block->site(site).transform.stages.at(0)).values;
  };
  EXPECT_TRUE(at::equal(signs(0, "qkv.input"), signs(0, "qkv.input")));
  EXPECT_FALSE(at::equal(signs(0, "qkv.input"), signs(1, "qkv.input")));
  EXPECT_FALSE(at::equal(signs(0, "qkv.input"), signs(0, "gate_up.input")));
  EXPECT_TRUE(at::equal(signs(0, "qkv.input").abs(), at::ones({48})));
}

// The squared error of a site's outputs, both sides rounded with zero points.
double rounded_error(BlockFixture& fixture, const std::string& site, const TransformOp& stage,
                     const Tensor& x, int weight_bits, int activation_bits) {
  const Tensor rotated = apply_op(stage, x);
  const Tensor rounded =
      ActivationQuantizer::per_token(activation_bits, /*symmetric=*/false, 0.9)(rotated).dequantize();
  double error = 0;
  for (const Linear* linear : fixture.block->linears()) {
    if (linear->site != site) continue;
    const Tensor W = apply_op(stage, linear->weight.values());
    const QuantizedTensor q = round_to_nearest(W, {weight_bits, Granularity::kChannel, 0, false, false});
    error += (at::mm(rounded, dequantize(q).t()) - at::mm(rotated, W.t())).square().sum().item<double>();
  }
  return error;
}

TEST(RotateStep, AutomaticKindLeavesTheSmallerErrorOnTheHeldOutTokens) {
  std::set<size_t> kinds;
  for (const ToyLlama& sizes : kSizes) {
    LlamaFixture greedy(sizes), chosen(sizes), plain(sizes);
    greedy.apply("rotate", {{"kind", "greedy"}, {"samples", 48}});
    chosen.apply("rotate", {{"kind", "auto"},
                            {"samples", 64},
                            {"weight_bits", 4},
                            {"activation_bits", 6},
                            {"clip_factor", 0.9}});
    for (const std::string& name : plain.linear_inputs()) {
      const Tensor kept = chosen.measured.at(name).samples.slice(0, 48, 64);
      const TransformOp found = greedy.block->site(name).transform.stages.at(0);
      const int64_t channels = kept.size(1);
      const TransformOp hadamard = make_block_hadamard(channels, power_of_two_block(channels));
      const double greedy_error = rounded_error(plain, name, found, kept, 4, 6);
      const double hadamard_error = rounded_error(plain, name, hadamard, kept, 4, 6);
      ASSERT_GT(std::abs(greedy_error / hadamard_error - 1), 1e-4) << "too close to tell";
      const TransformOp& stage = chosen.block->site(name).transform.stages.at(0);
      EXPECT_EQ(stage.index(), (greedy_error < hadamard_error ? found : hadamard).index()) << name;
      kinds.insert(stage.index());
    }
  }
  EXPECT_EQ(kinds.size(), 2U);  // each was the better one somewhere
}

TEST(ZigzagStep, DealsTheLargestChannelsToDifferentBlocks) {
  for (const ToyLlama& sizes : kSizes) {
    LlamaFixture fixture(sizes);
    fixture.apply("zigzag", {{"block", 8}});
    for (const std::string& name : fixture.linear_inputs()) {
      EXPECT_EQ(text_of(fixture, name), "permutation");
      const Tensor before = fixture.measured.at(name).samples.abs().amax(0);
      const Tensor after = fixture.statistics.at(name).samples.abs().amax(0);
      EXPECT_TRUE(at::equal(std::get<0>(before.sort()), std::get<0>(after.sort())));
      // Every run of as many channels as there are blocks, in descending order, meets each block once.
      const int64_t blocks = after.numel() / 8;
      const Tensor places = std::get<1>(after.sort(0, /*descending=*/true)).floor_divide(8);
      for (int64_t round = 0; round < 8; ++round) {
        const Tensor dealt = places.slice(0, round * blocks, (round + 1) * blocks);
        EXPECT_TRUE(at::equal(std::get<0>(dealt.sort()), at::arange(blocks))) << name << round;
      }
    }
  }
}

TEST(RotateStep, BlockThatDoesNotDivideIsAUsageErrorThatNamesBoth) {
  LlamaFixture fixture;  // 24 and 40 channels
  for (const char* step : {"rotate", "zigzag"}) {
    EXPECT_ERROR(fixture.needs(step, {{"block", 16}}), ExitCode::kUsage,
                 "blocks of 16 do not divide its 24 channels");
    EXPECT_ERROR(fixture.needs(step, {{"block", 12}}), ExitCode::kUsage,
                 "blocks of 12 do not divide its 40 channels");
    EXPECT_ERROR(fixture.needs(step, {{"block", 12}}), ExitCode::kUsage, "down.input");
    EXPECT_NO_THROW(fixture.needs(step, {{"block", 12}, {"sites", {"qkv.input", "o.input"}}}));
  }
}

TEST(RotateStep, RotationsOfTwoSizesAtOneSiteAreAUsageError) {
  LlamaFixture fixture;
  fixture.apply("rotate", {{"kind", "greedy"}, {"block", 8}});
  EXPECT_ERROR(fixture.apply("rotate", {{"kind", "greedy"}, {"block", 4}}), ExitCode::kUsage,
               "blocks of 8 and of 4");
  EXPECT_NO_THROW(fixture.apply("rotate", {{"kind", "hadamard"}, {"block", 4}}));
}

TEST(RotateStep, SitesThatOthersReadAreRefusedByNameAndSkippedElse) {
  for (const char* step : {"rotate", "zigzag"}) {
    MambaFixture fixture;
    EXPECT_TRUE(fixture.block->site("ssm.x").shared);
    EXPECT_ERROR(fixture.needs(step, {{"sites", "ssm.x"}}), ExitCode::kUsage, "ssm.x: cannot be transformed");
    EXPECT_ERROR(fixture.needs(step, {{"sites", {"in_proj.input", "ssm.dt"}}}), ExitCode::kUsage,
                 "ssm.dt: cannot be transformed");
    EXPECT_ERROR(fixture.check(step, {{"sites", "ssm.y"}}), ExitCode::kUsage, "ssm.y");
    fixture.apply(step, {{"block", 2}});
    EXPECT_TRUE(fixture.block->site("ssm.x").transform.empty());
    EXPECT_FALSE(fixture.block->site("in_proj.input").transform.empty());
    EXPECT_FALSE(fixture.block->site("ssm.output").transform.empty());
    EXPECT_LT(fixture.change(), 1e-5);
    MambaFixture all;
    EXPECT_NO_THROW(all.apply(step, {{"block", 2}, {"sites", "all"}}));
    EXPECT_LT(all.change(), 1e-5);
    LlamaFixture llama;
    EXPECT_ERROR(llama.needs(step, {{"sites", "attn.q"}}), ExitCode::kUsage, "attn.q");
  }
  MambaFixture mamba;
  EXPECT_ERROR(mamba.needs("hadamard", {{"site", "ssm.x"}}), ExitCode::kUsage, "ssm.x");
  EXPECT_ERROR(mamba.apply("hadamard", {{"site", "ssm.x"}}), ExitCode::kUsage, "more than linears");
  EXPECT_LT(mamba.change(), 1e-6);
}

TEST(QueryKeyHadamardStep, RotatesQueriesAndKeysHeadByHead) {
  LlamaFixture fixture(kSizes[1]);  // heads of 8
  fixture.apply("qk_hadamard", Json::object());
  EXPECT_EQ(text_of(fixture, "attn.q"), "hadamard(8)");
  EXPECT_EQ(text_of(fixture, "attn.k"), "hadamard(8)");
  EXPECT_EQ(text_of(fixture, "attn.v"), "");
  LlamaFixture odd;  // heads of 12
  odd.apply("qk_hadamard", Json::object());
  EXPECT_EQ(text_of(odd, "attn.k"), "hadamard(4)");
  EXPECT_EQ(std::get<Hadamard>(odd.block->site("attn.k").transform.stages.at(0)).size, 12);
}

TEST(QueryKeyHadamardStep, ModelWithoutAttentionIsAUsageError) {
  MambaFixture fixture;
  EXPECT_ERROR(fixture.check("qk_hadamard", Json::object()), ExitCode::kUsage, "the model has no attention");
  LlamaFixture llama;
  EXPECT_NO_THROW(llama.check("qk_hadamard", Json::object()));
}

}  // namespace
}  // namespace ptq
