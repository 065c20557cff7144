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
      for (const Weight* weight : fixture.block->weights()) before.push_back(weight->values());
      fixture.apply(entry.name, Json::object());
      EXPECT_LT(fixture.change(), 1e-5) << entry.name << " " << sizes.d_inner;
      // It did something.
      size_t changed = 0;
      const auto weights = fixture.block->weights();
      for (size_t i = 0; i < before.size(); ++i) {
        if (!at::equal(before[i], weights[i]->values())) ++changed;
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
  const Tensor W = fixture.linear("out_proj").weight.values();
  fixture.apply("hadamard", {{"site", "ssm.output"}});
  const Site& site = fixture.block->site("ssm.output");
  EXPECT_EQ(transform_text(site.transform), "hadamard(48)");
  EXPECT_TRUE(at::equal(fixture.linear("out_proj").weight.values(), site.transform.apply(W)));
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
  EXPECT_ERROR(fixture.apply("hadamard", {{"site", "ssm.outptu"}}), ExitCode::kUsage, "ssm.output");
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
  const Tensor columns = fixture.linear("in_proj").weight.values().abs().amax(0);
  EXPECT_TRUE(at::allclose(a / s, columns, 1e-4, 1e-6));
  EXPECT_TRUE(fixture.block->site("dt_proj.input").smooth.defined());
  EXPECT_FALSE(fixture.block->site("ssm.output").smooth.defined());
}

TEST(SmoothStep, LeavesAnEarlierCloneAsItWas) {
  Fixture fixture;
  const auto clone = testing::clone_of(*fixture.block);
  fixture.apply("smooth", Json::object());
  EXPECT_TRUE(at::equal(outputs_of(*clone, fixture.inputs), fixture.outputs));
}

TEST(RtnStep, RoundsLinearsOnlyUnlessAllTensorsAreAsked) {
  for (const bool all : {false, true}) {
    Fixture fixture;
    const auto floats = testing::clone_of(*fixture.block);
    fixture.apply("rtn", {{"bits", 8}, {"granularity", "tensor"}, {"tensors", all ? "all" : "linears"}});
    const auto weights = fixture.block->weights();
    for (size_t i = 0; i < weights.size(); ++i) {
      const Weight* weight = weights[i];
      const bool linear = weight->role == Role::kLinear;
      const bool small =
          weight->role == Role::kConv || weight->role == Role::kDecay || weight->role == Role::kSkip;
      EXPECT_EQ(weight->quantized() != nullptr, linear || (all && small)) << weight->name;
      const Tensor before = floats->weights()[i]->values();
      if (weight->quantized() != nullptr) {
        const QuantizedTensor expected = round_to_nearest(before, {8, Granularity::kTensor});
        EXPECT_TRUE(at::equal(weight->quantized()->codes, expected.codes)) << weight->name;
        EXPECT_TRUE(at::equal(weight->values(), dequantize(expected))) << weight->name;
      } else {
        EXPECT_TRUE(at::equal(weight->values(), before)) << weight->name;
      }
    }
    EXPECT_GT(fixture.change(), 0);
    EXPECT_LT(fixture.change(), 0.1);
  }
}

TEST(RtnStep, SkippedLayersStayFloatAndAreNamed) {
  Fixture fixture;
  fixture.apply("rtn", Json::object(), [](const std::string& name) { return name.ends_with(".x_proj"); });
  EXPECT_FALSE(fixture.linear("x_proj").weight.quantized());
  EXPECT_TRUE(fixture.linear("in_proj").weight.quantized());
  EXPECT_TRUE(fixture.remarks.fallbacks.empty());
  ASSERT_EQ(fixture.remarks.decisions.size(), 1U);
  EXPECT_TRUE(fixture.remarks.decisions[0].where.ends_with("x_proj"));
}

TEST(RtnStep, LayersThatBearNoFewerBitsStayFloatAndAreNamed) {
  Fixture fixture;
  fixture.apply("rtn", {{"bits", 4}, {"granularity", "group"}, {"group", 16}});
  EXPECT_FALSE(fixture.linear("dt_proj").weight.quantized());
  EXPECT_EQ(fixture.linear("in_proj").weight.quantized()->scheme,
            (WeightScheme{4, Granularity::kGroup, 16, true}));
  EXPECT_TRUE(fixture.remarks.fallbacks.empty());
  ASSERT_EQ(fixture.remarks.decisions.size(), 1U);
  EXPECT_TRUE(fixture.remarks.decisions[0].where.ends_with("dt_proj"));
}

TEST(RoundingSteps, LayersThatAreNeverRoundedStayFloatAtAnyBitsAndAreNamed) {
  for (const char* step : {"rtn", "gptq"}) {
    for (const int bits : {4, 8}) {
      Fixture fixture;
      fixture.linear("out_proj").min_bits = kNeverRounded;
      fixture.apply(step, {{"bits", bits}});
      EXPECT_FALSE(fixture.linear("out_proj").weight.quantized()) << step;
      EXPECT_TRUE(fixture.linear("in_proj").weight.quantized()) << step;
      EXPECT_TRUE(fixture.remarks.fallbacks.empty());
      int64_t named = 0;
      for (const Remark& decision : fixture.remarks.decisions) {
        if (!decision.where.ends_with("out_proj")) continue;
        ++named;
        EXPECT_EQ(decision.what, "kept in float");
        EXPECT_EQ(decision.why, "the architecture allows no rounding here");
      }
      EXPECT_EQ(named, 1) << step;
    }
  }
}

TEST(RoundingSteps, NeedNothingOfASiteWhoseLayersAreNeverRounded) {
  Fixture fixture;
  fixture.linear("out_proj").min_bits = kNeverRounded;
  const Needs searched = fixture.needs("rtn", {{"clip", "search"}});
  EXPECT_FALSE(searched.contains("ssm.output"));
  EXPECT_TRUE(searched.contains("in_proj.input"));
  EXPECT_FALSE(fixture.needs("gptq", Json::object()).contains("ssm.output"));
}

TEST(ActivationsStep, StaticScalesAreTheLargestMagnitudeOfEverySite) {
  Fixture fixture;
  fixture.apply("activations", {{"percentile", 1}});
  for (const Site* site : fixture.block->sites()) {
    if (site->kind == kStateSite) continue;
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
    if (site->kind == kStateSite) continue;
    const SiteStatistics& statistics = fixture.statistics.at(site->name);
    const double amax = site->name == "ssm.x" ? statistics.percentiles.at(0.9) : statistics.abs_max;
    EXPECT_FLOAT_EQ(site->quantizer.scale.item<float>(), static_cast<float>(amax / 127)) << site->name;
  }
  EXPECT_LT(fixture.statistics.at("ssm.x").percentiles.at(0.9), fixture.statistics.at("ssm.x").abs_max);
}

TEST(ActivationsStep, DynamicScalesNeedNoStatistics) {
  Fixture fixture;
  EXPECT_TRUE(fixture.needs("activations", {{"scales", "dynamic"}}).empty());
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
  fixture.run_on(at::zeros_like(fixture.inputs));
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
    EXPECT_LE(relative_output_error(chosen.sublayer(), chosen.inputs, chosen.outputs),
              relative_output_error(fixed.sublayer(), fixed.inputs, fixed.outputs));
  }
}

TEST(RelativeOutputError, IsZeroForTheFloatSublayerAndGrowsWithCoarserScales) {
  Fixture fixture;
  EXPECT_LT(relative_output_error(fixture.sublayer(), fixture.inputs, fixture.outputs), 1e-12);
  Fixture measured;
  measured.apply("activations", {{"percentile", 1}});
  const double finest = measured.statistics.at("ssm.output").abs_max / 127;
  double last = 0;
  for (const double coarser : {1, 10, 100}) {
    fixture.block->site("ssm.output").quantizer = ActivationQuantizer::fixed(coarser * finest, 8);
    const double error = relative_output_error(fixture.sublayer(), fixture.inputs, fixture.outputs);
    EXPECT_GT(error, last);
    last = error;
  }
}

std::vector<ActivationQuantizer> covering(const std::vector<double>& amax) {
  std::vector<ActivationQuantizer> quantizers;
  for (const double largest : amax) quantizers.push_back(ActivationQuantizer::covering(largest, 8));
  return quantizers;
}

TEST(SearchClips, NeverWorsensTheErrorAndTakesScalesFromTheLadder) {
  for (const uint64_t seed : {1, 2, 3, 4}) {
    ToyMamba sizes;
    sizes.seed = seed;
    Fixture fixture(sizes);
    fixture.apply("activations", {{"percentile", 1}});
    const double before = relative_output_error(fixture.sublayer(), fixture.inputs, fixture.outputs);
    std::vector<ClipLadder> ladders;
    for (const Site* site : fixture.block->sites()) {
      if (site->kind == kStateSite) continue;
      const double amax = fixture.statistics.at(site->name).abs_max;
      const bool descending = ladders.size() % 2 == 0;
      ladders.push_back({site->name, covering({0.7 * amax, 0.4 * amax, 0.001 * amax}), descending});
    }
    search_clips(fixture.sublayer(), ladders, fixture.inputs, fixture.outputs);
    EXPECT_LE(relative_output_error(fixture.sublayer(), fixture.inputs, fixture.outputs), before);
    for (const ClipLadder& ladder : ladders) {
      const auto scale = fixture.block->site(ladder.site).quantizer.scale.item<float>();
      const double amax = fixture.statistics.at(ladder.site).abs_max;
      // A thousandth of the largest value is never the best clip.
      const bool listed = std::ranges::any_of(covering({amax, 0.7 * amax, 0.4 * amax}), [&](const auto& q) {
        return scale == q.scale.template item<float>();
      });
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
    search_clips(fixture.sublayer(), {{"ssm.output", covering({amax, 0.01 * amax}), descending}},
                 fixture.inputs, fixture.outputs);
    EXPECT_FLOAT_EQ(fixture.block->site("ssm.output").quantizer.scale.item<float>(),
                    static_cast<float>(amax / 127));
  }
}

TEST(SearchClips, ALadderWithoutCandidatesLeavesTheSiteAsItWas) {
  Fixture fixture;
  fixture.apply("activations", {{"percentile", 1}});
  fixture.block->site("z").quantizer = ActivationQuantizer::fixed(0.125, 8);
  search_clips(fixture.sublayer(), {{"z", {}, false}}, fixture.inputs, fixture.outputs);
  EXPECT_EQ(fixture.block->site("z").quantizer.scale.item<float>(), 0.125F);
}

TEST(Steps, CheckThrowsAUsageErrorForASiteThatNoSublayerHas) {
  const std::vector<NamedOptions> mamba = {
      {"hadamard", {{"site", "ssm.outptu"}}},
      {"rotate", {{"sites", "ssm.outptu"}}},
      {"zigzag", {{"sites", {"in_proj.input", "ssm.outptu"}}}},
      {"activations", {{"sites", {"in_proj.input", "ssm.outptu"}}}},
      {"activations", {{"scales", "dynamic"}, {"sites", "ssm.outptu"}}},
      {"activations", {{"percentile_site", "ssm.outptu"}, {"percentile", 0.99}}}};
  for (const auto& [name, options] : mamba) {
    SCOPED_TRACE(name + options.dump());
    MambaFixture fixture;
    EXPECT_ERROR(fixture.check(name, options), ExitCode::kUsage,
                 "the model has no activation site \"ssm.outptu\"");
    EXPECT_ERROR(fixture.check(name, options), ExitCode::kUsage, "ssm.output");
    EXPECT_NO_THROW(make_step(name, options)->needs(fixture.sublayer()));
  }
  MambaFixture fixture;
  EXPECT_ERROR(fixture.check("qk_hadamard", Json::object()), ExitCode::kUsage,
               "there are no queries and keys");
}

// Steps for one of the two sublayers of a Llama block, and which.
struct PartialStep {
  NamedOptions step;
  size_t sublayer;
};

const PartialStep kPartialSteps[] = {
    {{"hadamard", {{"site", "down.input"}}}, 1},
    {{"hadamard", {{"site", "o.input"}}}, 0},
    {{"rotate", {{"sites", "down.input"}}}, 1},
    {{"rotate", {{"sites", "qkv.input"}, {"kind", "auto"}}}, 0},
    {{"zigzag", {{"sites", "down.input"}}}, 1},
    {{"qk_hadamard"}, 0},
    {{"activations", {{"sites", {"down.input", "gate_up.input"}}}}, 1},
    {{"activations", {{"scales", "dynamic"}, {"sites", "attention"}}}, 0},
    {{"activations", {{"sites", "o.input"}, {"percentile_site", "o.input"}, {"percentile", "auto"}}}, 0},
};

TEST(Steps, SublayerWithoutTheirSitesIsLeftAlone) {
  for (const auto& [step, own] : kPartialSteps) {
    SCOPED_TRACE(step.name + step.options.dump());
    LlamaFixture fixture;
    EXPECT_NO_THROW(fixture.check(step.name, step.options));
    ASSERT_EQ(fixture.block->sublayers().size(), 2U);
    Sublayer& other = fixture.block->sublayers()[1 - own];
    EXPECT_TRUE(make_step(step.name, step.options)->needs(other).empty());
    const auto is_as_before = [](Sublayer& sublayer, Sublayer& before) {
      bool same = true;
      for (size_t i = 0; i < sublayer.weights().size(); ++i)
        same = same && at::equal(sublayer.weights()[i]->values(), before.weights()[i]->values());
      for (const Site* site : sublayer.sites())
        same = same && site->transform.empty() && site->quantizer.kind == ActivationQuantizer::Kind::kNone;
      return same;
    };
    Sublayer own_before = fixture.block->sublayers()[own].clone(), other_before = other.clone();
    Remarks remarks;
    std::vector<std::string> warnings;
    const std::function<bool(const std::string&)> skip = skip_none;
    PlanContext plan{skip, remarks, warnings};
    make_step(step.name, step.options)->plan(other, plan);
    EXPECT_TRUE(is_as_before(other, other_before));
    EXPECT_TRUE(remarks.fallbacks.empty());
    fixture.apply(step.name, step.options);
    EXPECT_TRUE(is_as_before(other, other_before));
    EXPECT_FALSE(is_as_before(fixture.block->sublayers()[own], own_before));
    for (const Remark& remark : fixture.remarks.fallbacks) {
      const std::string site = remark.where.substr(fixture.block->prefix().size() + 1);
      EXPECT_EQ(other.find_site(site), nullptr) << site;
    }
  }
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
