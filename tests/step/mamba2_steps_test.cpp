// Steps on a small Mamba-2 block: rewrites change nothing, also where the mixer differs from Mamba-1's.
#include <gtest/gtest.h>

#include "../base/expect_error.h"
#include "block_fixture.h"

namespace ptq {
namespace {

using testing::ToyMamba2;

// Groups of one head and of several, a state that no Hadamard matrix fits, biases, no gated norm.
const ToyMamba2 kSizes[] = {
    {},
    {.d_model = 48, .heads = 6, .head_dim = 16, .groups = 3, .d_state = 5, .biases = true},
    {.d_model = 32, .heads = 4, .head_dim = 16, .groups = 1, .d_state = 16, .state_spaces = true},
    {.d_model = 20,
     .heads = 5,
     .head_dim = 10,
     .groups = 5,
     .d_state = 4,
     .state_spaces = true,
     .norm = false}};

TEST(Mamba2Rewrites, LeaveTheBlocksOutputUnchanged) {
  for (const StepEntry& entry : steps()) {
    if (entry.kind != StepKind::kRewrite) continue;
    for (const ToyMamba2& sizes : kSizes) {
      SCOPED_TRACE(std::string(entry.name) + " " + std::to_string(sizes.d_model));
      Mamba2Fixture fixture(sizes);
      fixture.apply(entry.name, Json::object());
      EXPECT_LT(fixture.change(), 1e-5);
    }
  }
}

// It has what Mamba-1 lacks: a producer before the site.
TEST(Mamba2Smooth, DividesTheGatedNormsGainAndTheScanOutputWithIt) {
  Mamba2Fixture fixture;
  const Tensor W = fixture.linear("out_proj").weight.values();
  fixture.apply("smooth", Json::object());
  const Tensor s = fixture.block->site("ssm.output").smooth;
  ASSERT_TRUE(s.defined());
  EXPECT_EQ(s.sizes(), at::IntArrayRef({48}));
  EXPECT_TRUE(at::allclose(fixture.linear("out_proj").weight.values(), W * s));
  EXPECT_TRUE(fixture.block->site("in_proj.input").smooth.defined());
  Mamba2Fixture ungated(kSizes[3]);
  ungated.apply("smooth", Json::object());
  EXPECT_FALSE(ungated.block->site("ssm.output").smooth.defined());
  EXPECT_TRUE(ungated.block->site("in_proj.input").smooth.defined());
}

TEST(Mamba2QueryKeyHadamard, RotatesBAndCGroupByGroup) {
  Mamba2Fixture fixture;
  EXPECT_NO_THROW(fixture.check("qk_hadamard", Json::object()));
  fixture.apply("qk_hadamard", Json::object());
  for (const char* name : {"ssm.B", "ssm.C"})
    EXPECT_EQ(transform_text(fixture.block->site(name).transform), "hadamard(8)");
  for (const char* name : {"ssm.x", "ssm.output"}) EXPECT_TRUE(fixture.block->site(name).transform.empty());
}

TEST(Mamba2QueryKeyHadamard, PairsOfAttentionAloneAreAUsageErrorWhereThereIsNone) {
  Mamba2Fixture fixture;
  EXPECT_NO_THROW(fixture.check("qk_hadamard", {{"pairs", "ssm"}}));
  EXPECT_ERROR(fixture.check("qk_hadamard", {{"pairs", "attention"}}), ExitCode::kUsage, "no attention");
  fixture.apply("qk_hadamard", {{"pairs", "ssm"}});
  EXPECT_EQ(transform_text(fixture.block->site("ssm.B").transform), "hadamard(8)");
  LlamaFixture llama;
  EXPECT_NO_THROW(llama.check("qk_hadamard", {{"pairs", "attention"}}));
  EXPECT_ERROR(llama.check("qk_hadamard", {{"pairs", "ssm"}}), ExitCode::kUsage, "no Mamba-2");
}

// All but the state, which only its name selects.
void expect_static(Block& block) {
  for (const Site* site : block.sites()) {
    const bool is_static = site->quantizer.kind == ActivationQuantizer::Kind::kStatic;
    EXPECT_EQ(is_static, site->kind != kStateSite) << site->name;
  }
}

TEST(Mamba2Activations, SelectionsTellTheMixersSitesFromTheRest) {
  Mamba2Fixture fixture;
  fixture.apply("activations", {{"sites", "rest"}, {"scales", "dynamic"}});
  for (const Site* site : fixture.block->sites())
    EXPECT_EQ(site->quantizer.kind, ActivationQuantizer::Kind::kNone) << site->name;
  fixture.apply("activations", {{"sites", "ssm"}});
  expect_static(*fixture.block);
  LlamaFixture llama;
  llama.apply("activations", {{"sites", "ssm"}});
  llama.apply("activations", {{"sites", "rest"}, {"scales", "dynamic"}});
  for (const Site* site : llama.block->sites())
    EXPECT_EQ(site->quantizer.kind == ActivationQuantizer::Kind::kDynamic, site->kind == "linear_input")
        << site->name;
}

// One scale for x, B and C of the convolution's input, one a group of B and C, one a cluster of x.
TEST(Mamba2Activations, ScalesOfPartsAreThoseOfTheirLargestChannels) {
  Mamba2Fixture fixture;
  fixture.apply("activations", {{"granularity", "part"}});
  for (Site* site : fixture.block->sites()) {
    const Tensor& scale = site->quantizer.scale;
    if (site->parts.empty() && site->heads.heads == 0) {
      EXPECT_TRUE(site->kind == kStateSite || scale.numel() == 1) << site->name;
      continue;
    }
    ASSERT_EQ(scale.numel(), site->channels) << site->name;
    const Tensor amax = fixture.statistics.at(site->name).channel_abs_max;
    EXPECT_TRUE((scale * 127 >= amax * (1 - 1e-6)).all().item<bool>()) << site->name;
    if (site->parts.empty()) continue;
    const auto scales = scale.split_with_sizes(site->parts), maxima = amax.split_with_sizes(site->parts);
    for (size_t i = 0; i < scales.size(); ++i) {
      const Tensor expected = (maxima[i].max() / 127).expand_as(scales[i]);
      EXPECT_TRUE(at::allclose(scales[i], expected, 1e-6, 0)) << site->name;
    }
  }
}

TEST(Mamba2Activations, ScalesOfChannelsAreTheirOwnWhereNoProductReadsCodes) {
  Mamba2Fixture fixture;
  fixture.apply("activations", {{"granularity", "channel"}});
  for (Site* site : fixture.block->sites()) {
    if (site->kind == kStateSite) continue;
    const SiteStatistics& statistics = fixture.statistics.at(site->name);
    const bool alone = site->kind == "linear_input";
    // With a margin for the few tokens there are, but no more than the site needs.
    const double margin = std::sqrt(std::log(4096.0) / std::log(static_cast<double>(statistics.tokens)));
    EXPECT_GT(margin, 1.1);
    const Tensor expected = alone ? at::full({1}, statistics.abs_max, at::kFloat)
                                  : (statistics.channel_abs_max * margin).clamp_max(statistics.abs_max);
    EXPECT_TRUE(at::allclose(site->quantizer.scale * 127, expected, 1e-6, 0)) << site->name;
  }
}

TEST(Mamba2Activations, StateIsRoundedWhereItIsNamed) {
  Mamba2Fixture fixture;
  fixture.apply("activations", {{"sites", "ssm.state"}});
  for (const Site* site : fixture.block->sites()) {
    const bool rounds = site->quantizer.kind != ActivationQuantizer::Kind::kNone;
    EXPECT_EQ(rounds, site->kind == kStateSite) << site->name;
    EXPECT_TRUE(!rounds || site->quantizer.scale.numel() == site->channels);
  }
  EXPECT_EQ(fixture.change(), 0);  // a forward without a state rounds none
}

TEST(Mamba2Activations, DynamicScalesHaveNoGranularity) {
  Mamba2Fixture fixture;
  EXPECT_ERROR(fixture.check("activations", {{"scales", "dynamic"}, {"granularity", "channel"}}),
               ExitCode::kUsage, "is for static scales");
}

TEST(Mamba2Rtn, PartsOfAWeightHaveAScaleEach) {
  Mamba2Fixture fixture;
  fixture.apply("rtn", {{"granularity", "part"}, {"tensors", "all"}});
  for (const Weight* weight : fixture.block->weights()) {
    if (weight->quantized() == nullptr) continue;
    const QuantizedTensor& q = *weight->quantized();
    EXPECT_EQ(q.scheme.granularity, weight->row_parts.empty() ? Granularity::kTensor : Granularity::kChannel)
        << weight->name;
    if (weight->row_parts.empty()) continue;
    for (const Tensor& scales : q.scale.flatten().split_with_sizes(weight->row_parts))
      EXPECT_TRUE((scales == scales[0]).all().item<bool>()) << weight->name;
    for (const Tensor& codes : q.codes.split_with_sizes(weight->row_parts))
      EXPECT_EQ(codes.abs().max().item<int>(), 127) << weight->name;
  }
  EXPECT_ERROR(fixture.check("gptq", {{"granularity", "part"}}), ExitCode::kUsage, "no scales of parts");
}

TEST(Mamba2Hadamard, SitesThatNoLinearReadsAreErrors) {
  Mamba2Fixture fixture;
  for (const char* name : {"ssm.x", "z", "ssm.B"})
    EXPECT_ERROR(fixture.needs("hadamard", {{"site", name}}), ExitCode::kUsage, "no linear reads the site");
}

// Those that a Mamba-1 has and a Mamba-2 has not.
TEST(Mamba2Steps, SitesThatNoBlockHasAreErrors) {
  for (const char* name : {"dt_proj.input", "x_proj.input"}) {
    Mamba2Fixture fixture;
    const std::string words = "the model has no activation site \"" + std::string(name) + "\"";
    EXPECT_ERROR(fixture.check("hadamard", {{"site", name}}), ExitCode::kUsage, words);
    EXPECT_ERROR(fixture.check("activations", {{"sites", {name, "z"}}}), ExitCode::kUsage, words);
  }
}

TEST(Mamba2Activations, EverySiteIsRoundedAndTheScanInputClippedAtAPercentile) {
  Mamba2Fixture fixture;
  fixture.apply("activations", {{"percentile_site", "ssm.x"}, {"percentile", 0.99}});
  expect_static(*fixture.block);
  const auto scale_of = [&](const char* name) {
    return fixture.block->site(name).quantizer.scale.item<double>() * 127;
  };
  EXPECT_LT(scale_of("ssm.x"), 0.9 * fixture.statistics.at("ssm.x").abs_max);
  EXPECT_NEAR(scale_of("ssm.B"), fixture.statistics.at("ssm.B").abs_max, 1e-5);
  EXPECT_GT(fixture.change(), 1e-4);
  EXPECT_LT(fixture.change(), 0.3);
}

}  // namespace
}  // namespace ptq
