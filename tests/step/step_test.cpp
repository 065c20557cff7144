// Steps on a small Mamba block: rewrites change nothing, roundings do what their options say.
#include "ptq/step/step.h"

#include <gtest/gtest.h>

#include "../base/expect_error.h"
#include "block_fixture.h"
#include "ptq/step/clip_search.h"
#include "ptq/step/rewrites.h"

namespace ptq {
namespace {

using testing::ToyMamba;

using Fixture = MambaFixture;

const ToyMamba kSizes[] = {{24, 48}, {48, 96, 4, 4, 3}, {96, 192, 8, 2, 6}, {18, 36}, {20, 50, 5, 3, 3}};

TEST(Rewrites, LeaveTheBlocksOutputUnchanged) {
  for (const StepEntry& entry : steps()) {
    if (entry.kind != StepKind::kRewrite || entry.name == std::string("qk_hadamard")) continue;
    for (const ToyMamba& sizes : kSizes) {
      Fixture fixture(sizes);
      std::vector<Tensor> before;
      for (const Weight* weight : fixture.block->weights()) before.push_back(weight->value);
      fixture.apply(entry.name, Json::object());
      EXPECT_LT(fixture.change(), 1e-5) << entry.name << " " << sizes.d_inner;
      // It did something.
      size_t changed = 0;
      const auto weights = fixture.block->weights();
      for (size_t i = 0; i < before.size(); ++i) {
        if (!at::equal(before[i], weights[i]->value)) ++changed;
      }
      EXPECT_GT(changed, 0U) << entry.name;
    }
  }
}

TEST(Rewrites, ComposeInEitherOrder) {
  for (const bool smooth_first : {false, true}) {
    Fixture fixture;
    fixture.apply(smooth_first ? "smooth" : "hadamard", Json::object());
    fixture.apply(smooth_first ? "hadamard" : "smooth", Json::object());
    EXPECT_LT(fixture.change(), 1e-5);
  }
}

TEST(HadamardStep, RotatesTheSiteAndEveryReader) {
  Fixture fixture;
  const Tensor W = fixture.linear("out_proj").weight.value;
  fixture.apply("hadamard", {{"site", "ssm.output"}});
  const Site& site = fixture.block->site("ssm.output");
  EXPECT_EQ(transform_text(site.transform), "hadamard(48)");
  EXPECT_TRUE(at::equal(fixture.linear("out_proj").weight.value, site.transform.apply(W)));
  EXPECT_TRUE(fixture.remarks.fallbacks.empty());
}

TEST(HadamardStep, SizeWithoutAMatrixIsRotatedInBlocksAndSaysSo) {
  Fixture fixture({18, 36});
  fixture.apply("hadamard", Json::object());
  EXPECT_EQ(transform_text(fixture.block->site("ssm.output").transform), "hadamard(12)");
  ASSERT_EQ(fixture.remarks.fallbacks.size(), 1U);
  EXPECT_NE(fixture.remarks.fallbacks[0].what.find("3 blocks of 12"), std::string::npos);
}

TEST(HadamardStep, OddSizeIsLeftAsItIsAndSaysSo) {
  Fixture fixture({8, 7});
  fixture.apply("hadamard", Json::object());
  EXPECT_LT(fixture.change(), 1e-6);
  ASSERT_EQ(fixture.remarks.fallbacks.size(), 1U);
  EXPECT_NE(fixture.remarks.fallbacks[0].what.find("7 blocks of 1"), std::string::npos);
}

TEST(HadamardStep, SitesThatCannotBeRotatedAreErrors) {
  Fixture fixture;
  EXPECT_ERROR(fixture.apply("hadamard", {{"site", "ssm.dt"}}), ExitCode::kUsage, "no linear reads");
  EXPECT_ERROR(fixture.apply("hadamard", {{"site", "ssm.outptu"}}), ExitCode::kFailed, "ssm.output");
}

TEST(SmoothingScales, FollowTheFormulaAndNeverVanish) {
  const Tensor a = at::tensor({4.F, 1.F, 0.F, 100.F});
  const Tensor w = at::tensor({1.F, 4.F, 1.F, 0.F});
  const Tensor s = smoothing_scales(a, w, 0.5);
  EXPECT_FLOAT_EQ(s[0].item<float>(), 2);
  EXPECT_FLOAT_EQ(s[1].item<float>(), 0.5);
  EXPECT_GT(s.min().item<float>(), 0);
  EXPECT_TRUE(at::isfinite(s).all().item<bool>());
  EXPECT_TRUE(at::allclose(smoothing_scales(a, w, 1), a.clamp_min(1e-5)));
}

TEST(SmoothStep, BalancesActivationsAndWeightsOfEveryEdge) {
  Fixture fixture;
  fixture.apply("smooth", {{"alpha", 0.5}});
  // With alpha 1/2 both sides have the channel maximum sqrt(a w).
  const Tensor a = fixture.measured.at("in_proj.input").channel_abs_max;
  const Tensor s = fixture.block->site("in_proj.input").smooth;
  const Tensor columns = fixture.linear("in_proj").weight.value.abs().amax(0);
  EXPECT_TRUE(at::allclose(a / s, columns, 1e-4, 1e-6));
  EXPECT_TRUE(fixture.block->site("dt_proj.input").smooth.defined());
  EXPECT_FALSE(fixture.block->site("ssm.output").smooth.defined());
}

TEST(SmoothStep, LeavesAnEarlierCloneAsItWas) {
  Fixture fixture;
  const auto clone = fixture.block->clone();
  fixture.apply("smooth", Json::object());
  EXPECT_TRUE(at::equal(run_block(*clone, fixture.inputs), fixture.outputs));
}

TEST(RtnStep, RoundsLinearsOnlyUnlessAllTensorsAreAsked) {
  for (const bool all : {false, true}) {
    Fixture fixture;
    fixture.apply("rtn", {{"bits", 8}, {"granularity", "tensor"}, {"tensors", all ? "all" : "linears"}});
    for (const Weight* weight : fixture.block->weights()) {
      const bool linear = weight->role == Role::kLinear;
      const bool small =
          weight->role == Role::kConv || weight->role == Role::kDecay || weight->role == Role::kSkip;
      EXPECT_EQ(weight->quantized.has_value(), linear || (all && small)) << weight->name;
      if (weight->quantized) {
        EXPECT_TRUE(at::equal(weight->value, dequantize(*weight->quantized)));
      }
    }
    EXPECT_GT(fixture.change(), 0);
    EXPECT_LT(fixture.change(), 0.1);
  }
}

TEST(RtnStep, SkippedLayersStayFloatAndAreNamed) {
  Fixture fixture;
  fixture.apply("rtn", Json::object(), [](const std::string& name) { return name.ends_with(".x_proj"); });
  EXPECT_FALSE(fixture.linear("x_proj").weight.quantized);
  EXPECT_TRUE(fixture.linear("in_proj").weight.quantized);
  EXPECT_TRUE(fixture.remarks.fallbacks.empty());
  ASSERT_EQ(fixture.remarks.decisions.size(), 1U);
  EXPECT_TRUE(fixture.remarks.decisions[0].where.ends_with("x_proj"));
}

TEST(RtnStep, LayersThatBearNoFewerBitsStayFloatAndAreNamed) {
  Fixture fixture;
  fixture.apply("rtn", {{"bits", 4}, {"granularity", "group"}, {"group", 16}});
  EXPECT_FALSE(fixture.linear("dt_proj").weight.quantized);
  EXPECT_EQ(fixture.linear("in_proj").weight.quantized->scheme,
            (WeightScheme{4, Granularity::kGroup, 16, true}));
  EXPECT_TRUE(fixture.remarks.fallbacks.empty());
  ASSERT_EQ(fixture.remarks.decisions.size(), 1U);
  EXPECT_TRUE(fixture.remarks.decisions[0].where.ends_with("dt_proj"));
}

TEST(ActivationsStep, StaticScalesAreTheLargestMagnitudeOfEverySite) {
  Fixture fixture;
  fixture.apply("activations", {{"percentile", 1}});
  for (const Site* site : fixture.block->sites()) {
    ASSERT_EQ(site->quantizer.kind, ActivationQuantizer::Kind::kStatic) << site->name;
    EXPECT_FLOAT_EQ(site->quantizer.scale.item<float>(),
                    static_cast<float>(fixture.statistics.at(site->name).abs_max / 127));
  }
  EXPECT_GT(fixture.change(), 0);
  EXPECT_LT(fixture.change(), 0.2);
}

TEST(ActivationsStep, FixedPercentileClipsItsSiteOnly) {
  Fixture fixture;
  fixture.apply("activations", {{"percentile_site", "ssm.x"}, {"percentile", 0.9}, {"observer", "exact"}});
  for (const Site* site : fixture.block->sites()) {
    const SiteStatistics& statistics = fixture.statistics.at(site->name);
    const double amax = site->name == "ssm.x" ? statistics.percentiles.at(0.9) : statistics.abs_max;
    EXPECT_FLOAT_EQ(site->quantizer.scale.item<float>(), static_cast<float>(amax / 127)) << site->name;
  }
  EXPECT_LT(fixture.statistics.at("ssm.x").percentiles.at(0.9), fixture.statistics.at("ssm.x").abs_max);
}

TEST(ActivationsStep, DynamicScalesNeedNoStatistics) {
  Fixture fixture;
  EXPECT_TRUE(make_step("activations", {{"scales", "dynamic"}})->needs(*fixture.block).empty());
  fixture.apply("activations", {{"scales", "dynamic"}, {"sites", "linear_inputs"}});
  for (const Site* site : fixture.block->sites()) {
    const bool read = site->kind == "linear_input";
    EXPECT_EQ(site->quantizer.kind == ActivationQuantizer::Kind::kDynamic, read) << site->name;
    EXPECT_EQ(site->quantizer.kind == ActivationQuantizer::Kind::kNone, !read) << site->name;
  }
}

TEST(ActivationsStep, RoundingASiteTwiceIsAUsageError) {
  Fixture fixture;
  fixture.apply("activations", {{"scales", "dynamic"}, {"sites", "linear_inputs"}});
  EXPECT_ERROR(fixture.apply("activations", {{"percentile", 1}}), ExitCode::kUsage, "is rounded already");
}

TEST(ActivationsStep, SiteWithoutActivationsGetsTheSmallestScaleAndIsNamed) {
  Fixture fixture;
  fixture.inputs.zero_();
  fixture.outputs = run_block(*fixture.block, fixture.inputs);
  fixture.apply("activations", {{"percentile", 1}});
  EXPECT_FLOAT_EQ(fixture.block->site("in_proj.input").quantizer.scale.item<float>(), 1e-5F / 127);
  EXPECT_FALSE(fixture.remarks.fallbacks.empty());
  EXPECT_TRUE(fixture.remarks.fallbacks[0].where.ends_with("in_proj.input"));
}

TEST(ActivationsStep, AutomaticPercentileIsNoWorseThanTheLargestMagnitude) {
  for (const uint64_t seed : {1, 2, 3}) {
    ToyMamba sizes;
    sizes.seed = seed;
    Fixture fixed(sizes), chosen(sizes);
    fixed.apply("activations", {{"percentile_site", "ssm.x"}, {"percentile", 1}});
    chosen.apply("activations", {{"percentile_site", "ssm.x"}, {"percentile", "auto"}});
    EXPECT_LE(relative_output_error(*chosen.block, chosen.inputs, chosen.outputs),
              relative_output_error(*fixed.block, fixed.inputs, fixed.outputs));
  }
}

TEST(RelativeOutputError, IsZeroForTheFloatBlockAndGrowsWithCoarserScales) {
  Fixture fixture;
  EXPECT_LT(relative_output_error(*fixture.block, fixture.inputs, fixture.outputs), 1e-12);
  Fixture measured;
  measured.apply("activations", {{"percentile", 1}});
  const double finest = measured.statistics.at("ssm.output").abs_max / 127;
  double last = 0;
  for (const double coarser : {1, 10, 100}) {
    fixture.block->site("ssm.output").quantizer = ActivationQuantizer::fixed(coarser * finest, 8);
    const double error = relative_output_error(*fixture.block, fixture.inputs, fixture.outputs);
    EXPECT_GT(error, last);
    last = error;
  }
}

TEST(SearchClips, NeverWorsensTheErrorAndTakesScalesFromTheLadder) {
  for (const uint64_t seed : {1, 2, 3, 4}) {
    ToyMamba sizes;
    sizes.seed = seed;
    Fixture fixture(sizes);
    fixture.apply("activations", {{"percentile", 1}});
    const double before = relative_output_error(*fixture.block, fixture.inputs, fixture.outputs);
    std::vector<ClipLadder> ladders;
    for (const Site* site : fixture.block->sites()) {
      const double amax = fixture.statistics.at(site->name).abs_max;
      const bool descending = ladders.size() % 2 == 0;
      ladders.push_back({site->name, {amax, 0.7 * amax, 0.4 * amax, 0.001 * amax}, descending});
    }
    search_clips(*fixture.block, ladders, fixture.inputs, fixture.outputs);
    EXPECT_LE(relative_output_error(*fixture.block, fixture.inputs, fixture.outputs), before);
    for (const ClipLadder& ladder : ladders) {
      const auto scale = fixture.block->site(ladder.site).quantizer.scale.item<float>();
      // A thousandth of the largest value is never the best clip.
      const bool listed = std::any_of(ladder.amax.begin(), ladder.amax.begin() + 3,
                                      [&](double amax) { return scale == static_cast<float>(amax / 127); });
      EXPECT_TRUE(listed) << ladder.site << " " << scale;
    }
  }
}

TEST(SearchClips, ClipsAValueThatCostsMoreThanItIsWorth) {
  for (const bool descending : {false, true}) {
    Fixture fixture;
    fixture.apply("activations", {{"percentile", 1}});
    const double amax = fixture.statistics.at("ssm.output").abs_max;
    fixture.block->site("ssm.output").quantizer = ActivationQuantizer::fixed(100 * amax / 127, 8);
    search_clips(*fixture.block, {{"ssm.output", {100 * amax, amax, 0.01 * amax}, descending}},
                 fixture.inputs, fixture.outputs);
    EXPECT_FLOAT_EQ(fixture.block->site("ssm.output").quantizer.scale.item<float>(),
                    static_cast<float>(amax / 127));
  }
}

TEST(SearchClips, ALadderOfOneLeavesTheSiteAsItWas) {
  Fixture fixture;
  fixture.apply("activations", {{"percentile", 1}});
  fixture.block->site("z").quantizer = ActivationQuantizer::fixed(0.125, 8);
  search_clips(*fixture.block, {{"z", {1000}, false}}, fixture.inputs, fixture.outputs);
  EXPECT_EQ(fixture.block->site("z").quantizer.scale.item<float>(), 0.125F);
}

TEST(Steps, WrongOptionsAreUsageErrorsThatNameThem) {
  const std::vector<std::tuple<const char*, Json, const char*>> cases = {
      {"rtn", {{"bits", 5}}, "5 bits"},
      {"rtn", {{"format", "mxint"}, {"clip", 0.9}}, "clip"},
      {"gptq", {{"format", "nf4"}}, "format"},
      {"rtn", {{"clip", 1.5}}, "clip"},
      {"rtn", {{"clip", "search"}, {"granularity", "tensor"}}, "clip"},
      {"rotate", {{"kind", "helmert"}}, "kind"},
      {"rotate", {{"block", 0}}, "block"},
      {"rotate", {{"samples", 0}}, "samples"},
      {"zigzag", {{"samples", 0}}, "samples"},
      {"rtn", {{"samples", 0}}, "samples"},
      {"activations", {{"scales", "static"}, {"symmetric", false}}, "symmetric"},
      {"activations", {{"scales", "dynamic"}, {"clip_factor", 0}}, "clip_factor"},
      {"rtn", {{"granularity", "row"}}, "granularity"},
      {"rtn", {{"granularity", "group"}, {"group", 4}}, "4 weights"},
      {"rtn", {{"tensors", "some"}}, "tensors"},
      {"rtn", {{"bit", 8}}, "bit"},
      {"smooth", {{"alpha", 1.5}}, "alpha"},
      {"smooth", {{"alpha", -0.1}}, "alpha"},
      {"hadamard", {{"sites", "ssm.output"}}, "sites"},
      {"activations", {{"percentile", 0}}, "percentile"},
      {"activations", {{"percentile", 1.1}}, "percentile"},
      {"activations", {{"percentile", "best"}}, "percentile"},
      {"activations", {{"scales", "statik"}}, "static"},
      {"activations", {{"observer", "median"}}, "observer"},
      {"activations", {{"bits", 9}}, "9 bits"},
  };
  for (const auto& [name, options, words] : cases)
    EXPECT_ERROR(make_step(name, options), ExitCode::kUsage, words);
  EXPECT_ERROR(find_step("hadamart", "recipe"), ExitCode::kUsage, "hadamard");
}

}  // namespace
}  // namespace ptq
