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

TEST(Mamba2Activations, SelectionsTellTheMixersSitesFromTheRest) {
  Mamba2Fixture fixture;
  fixture.apply("activations", {{"sites", "rest"}, {"scales", "dynamic"}});
  for (const Site* site : fixture.block->sites())
    EXPECT_EQ(site->quantizer.kind, ActivationQuantizer::Kind::kNone) << site->name;
  fixture.apply("activations", {{"sites", "ssm"}});
  for (const Site* site : fixture.block->sites())
    EXPECT_EQ(site->quantizer.kind, ActivationQuantizer::Kind::kStatic) << site->name;
  LlamaFixture llama;
  llama.apply("activations", {{"sites", "ssm"}});
  llama.apply("activations", {{"sites", "rest"}, {"scales", "dynamic"}});
  for (const Site* site : llama.block->sites())
    EXPECT_EQ(site->quantizer.kind == ActivationQuantizer::Kind::kDynamic, site->kind == "linear_input")
        << site->name;
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
  for (const Site* site : fixture.block->sites())
    EXPECT_EQ(site->quantizer.kind, ActivationQuantizer::Kind::kStatic) << site->name;
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
