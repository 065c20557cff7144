// Clips of weights by their output error, and the roundings that use them on a small Llama.
#include "ptq/solve/weight_clips.h"

#include <gtest/gtest.h>

#include "block_fixture.h"

namespace ptq {
namespace {

using testing::ToyLlama;

const WeightScheme kSchemes[] = {{4, Granularity::kChannel},
                                 {4, Granularity::kChannel, 0, false, false},
                                 {4, Granularity::kGroup, 16, true},
                                 {4, Granularity::kGroup, 20, true, false},  // the last group is shorter
                                 {6, Granularity::kChannel, 0, false, false},
                                 {8, Granularity::kChannel}};

// Rows with a few large weights, as a long tail gives them.
Tensor heavy_tailed(int64_t out, int64_t in) {
  return at::randn({out, in}) * at::randn({out, in}).abs().pow(2);
}

Tensor correlated_moment(int64_t in) {
  const Tensor x = at::mm(at::randn({300, in / 4}), at::randn({in / 4, in})) + 0.3 * at::randn({300, in});
  return second_moment(x);
}

int64_t group_of(const WeightScheme& scheme, int64_t in) {
  return scheme.granularity == Granularity::kGroup ? scheme.group : in;
}

// e M e^T of every row, or of every group under its own part of M. [out, groups] float64
Tensor errors(const Tensor& W, const Tensor& M, const WeightScheme& scheme, const Tensor& clip) {
  const Tensor e = (W - dequantize(round_to_nearest(W, scheme, clip))).to(at::kDouble);
  std::vector<Tensor> parts;
  for (int64_t begin = 0; begin < W.size(1); begin += group_of(scheme, W.size(1))) {
    const int64_t end = std::min(W.size(1), begin + group_of(scheme, W.size(1)));
    const Tensor part = e.slice(1, begin, end);
    const Tensor block = M.slice(0, begin, end).slice(1, begin, end).to(at::kDouble);
    parts.push_back((at::mm(part, block) * part).sum(1, /*keepdim=*/true));
  }
  return at::cat(parts, 1);
}

TEST(ChooseWeightClips, AreNeverWorseThanNoClipAndHelpSomewhere) {
  at::manual_seed(1);
  const Tensor W = heavy_tailed(40, 72), M = correlated_moment(72);
  for (const WeightScheme& scheme : kSchemes) {
    const Tensor clips = choose_weight_clips(W, M, scheme);
    const Tensor before = errors(W, M, scheme, {}), after = errors(W, M, scheme, clips);
    ASSERT_EQ(clips.sizes(), before.sizes());
    EXPECT_TRUE(after.le(before * (1 + 1e-5)).all().item<bool>());
    if (scheme.bits == 4) {
      EXPECT_LT(after.sum().item<double>(), 0.95 * before.sum().item<double>());
    }
  }
}

TEST(ChooseWeightClips, AreTheBestOfNineFactors) {
  at::manual_seed(2);
  const Tensor W = heavy_tailed(30, 72);
  for (const Tensor& M : {at::eye(72), correlated_moment(72)}) {
    for (const WeightScheme& scheme : kSchemes) {
      std::vector<Tensor> tried;
      for (int i = 0; i < 9; ++i) tried.push_back(errors(W, M, scheme, at::full({1}, 1 - 0.05 * i)));
      const Tensor all = at::stack(tried);
      const Tensor clips = choose_weight_clips(W, M, scheme), chosen = errors(W, M, scheme, clips);
      EXPECT_TRUE(chosen.le(all.amin(0) * (1 + 1e-5)).all().item<bool>());
      const Tensor index = (1 - clips) / 0.05;
      EXPECT_TRUE(at::allclose(index, index.round(), 0, 1e-4));
      EXPECT_GE(clips.min().item<double>(), 0.6 - 1e-6);
      EXPECT_LE(clips.max().item<double>(), 1);
      // Where no other comes near, it is the one that brute force finds.
      const Tensor sorted = std::get<0>(all.sort(0));
      const Tensor clear = sorted[0] < sorted[1] * (1 - 1e-4);
      EXPECT_TRUE(
          index.round().to(at::kLong).eq(all.argmin(0)).logical_or(clear.logical_not()).all().item<bool>());
      EXPECT_GT(clear.sum().item<int64_t>(), clear.numel() / 2);
    }
  }
}

TEST(ChooseWeightClips, LargeWeightIsKeptWhereItsInputIsLargeAndCutWhereItIsNot) {
  at::manual_seed(3);
  Tensor W = at::randn({1, 64});
  W[0][5] = 6;
  const WeightScheme scheme{4, Granularity::kChannel};
  Tensor loud = at::eye(64), silent = at::eye(64);
  loud[5][5] = 1000;
  silent[5][5] = 0;
  EXPECT_EQ(choose_weight_clips(W, loud, scheme).item<float>(), 1);
  EXPECT_LT(choose_weight_clips(W, silent, scheme).item<float>(), 0.75);
}

TEST(ChooseWeightClips, OfEqualErrorsTheLargestFactorWins) {
  const Tensor clips =
      choose_weight_clips(at::zeros({3, 32}), at::eye(32), {4, Granularity::kGroup, 16, true});
  EXPECT_TRUE(at::equal(clips, at::ones({3, 2})));
  at::manual_seed(4);
  EXPECT_TRUE(
      at::equal(choose_weight_clips(at::randn({3, 32}), at::zeros({32, 32}), {4, Granularity::kChannel}),
                at::ones({3, 1})));
}

TEST(ChooseWeightClips, OneScaleATensorHasNone) {
  EXPECT_FALSE(choose_weight_clips(at::ones({2, 3}), at::eye(3), {8, Granularity::kTensor}).defined());
}

TEST(SecondMoment, IsTheMeanOfProductsOverTokens) {
  at::manual_seed(5);
  const Tensor x = at::randn({50, 7});
  EXPECT_TRUE(at::allclose(second_moment(x), at::mm(x.t(), x) / 50, 1e-5, 1e-6));
}

const ToyLlama kSizes[] = {
    {.hidden = 48, .heads = 4, .kv_heads = 2, .intermediate = 96, .seed = 1},
    {.hidden = 48, .heads = 4, .kv_heads = 2, .intermediate = 96, .biases = true, .seed = 2},
    {.hidden = 64, .heads = 4, .kv_heads = 4, .intermediate = 128, .seed = 3}};

// The relative output error that the steps leave.
double error_after(const ToyLlama& sizes, const std::vector<NamedOptions>& steps) {
  LlamaFixture fixture(sizes, /*windows=*/16);
  fixture.apply_all(steps);
  for (const Linear* linear : fixture.block->linears())
    EXPECT_TRUE(linear->weight.quantized()) << linear->name;
  return fixture.change();
}

Json four_bits(Json more) {
  Json options = {{"bits", 4}, {"symmetric", false}};
  options.update(more);
  return options;
}

TEST(RoundingSteps, SearchedClipsAndGptqBeatPlainRounding) {
  const Json groups = {{"granularity", "group"}, {"group", 16}};
  for (const ToyLlama& sizes : kSizes) {
    for (const Json& base : {Json::object(), groups}) {
      const auto with = [&](Json more) {
        more.update(base);
        return four_bits(more);
      };
      const double plain = error_after(sizes, {{"rtn", with(Json::object())}});
      EXPECT_LT(error_after(sizes, {{"rtn", with({{"clip", "search"}})}}), plain) << base;
      EXPECT_LT(error_after(sizes, {{"gptq", with({{"moment", "float"}})}}), plain) << base;
      EXPECT_LT(error_after(sizes, {{"gptq", with({{"moment", "rounded"}})}}), plain) << base;
      EXPECT_LT(error_after(sizes, {{"gptq", with({{"clip", "search"}})}}), plain) << base;
    }
  }
}

TEST(RoundingSteps, SearchedClipsAndGptqBeatPlainRoundingBehindRoundedActivations) {
  const NamedOptions activations = {
      "activations", {{"scales", "dynamic"}, {"bits", 4}, {"symmetric", false}, {"sites", "linear_inputs"}}};
  for (const ToyLlama& sizes : kSizes) {
    const double plain = error_after(sizes, {activations, {"rtn", four_bits(Json::object())}});
    EXPECT_LT(error_after(sizes, {activations, {"rtn", four_bits({{"clip", "search"}})}}), plain);
    EXPECT_LT(error_after(sizes, {activations, {"gptq", four_bits({{"moment", "rounded"}})}}), plain);
  }
}

TEST(RoundingSteps, SearchedClipsAreThoseOfTheActivationsAsRounded) {
  LlamaFixture fixture(kSizes[0]), before(kSizes[0]);
  fixture.apply_all({{"activations", {{"scales", "dynamic"}, {"bits", 4}, {"symmetric", false}}},
                     {"rtn", four_bits({{"clip", "search"}})}});
  const auto quantizer = ActivationQuantizer::per_token(4, /*symmetric=*/false);
  for (const Linear* linear : before.block->linears()) {
    const Tensor W = linear->weight.values();
    const Tensor x = quantizer(fixture.measured.at(linear->site).samples).dequantize();
    const WeightScheme scheme{4, Granularity::kChannel, 0, false, false};
    const QuantizedTensor q = round_to_nearest(W, scheme, choose_weight_clips(W, second_moment(x), scheme));
    EXPECT_TRUE(at::equal(fixture.linear(linear->name).weight.quantized()->codes, q.codes)) << linear->name;
    EXPECT_TRUE(at::equal(fixture.linear(linear->name).weight.quantized()->scale, q.scale)) << linear->name;
  }
}

TEST(RoundingSteps, FixedClipAndNoneNeedNoSamples) {
  LlamaFixture fixture;
  EXPECT_TRUE(fixture.needs("rtn", {{"clip", 0.8}}).empty());
  EXPECT_EQ(fixture.needs("rtn", {{"clip", "search"}, {"samples", 77}}).at("o.input").samples, 77);
  EXPECT_TRUE(fixture.needs("gptq", Json::object()).at("o.input").second_moment);
  const Needs rounded = fixture.needs("gptq", {{"moment", "rounded"}});
  EXPECT_EQ(rounded.size(), 4U);
  EXPECT_GT(rounded.at("down.input").samples, 0);
  EXPECT_FALSE(rounded.at("down.input").second_moment);
}

}  // namespace
}  // namespace ptq
