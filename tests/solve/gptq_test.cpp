// GPTQ against rounding to nearest, against the formulas of the paper, and where M is unusual.
#include "ptq/solve/gptq.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "ptq/base/error.h"

namespace ptq {
namespace {

// The second moment of inputs in which a few directions hold most of the energy. [in, in] float64
Tensor correlated_moment(int64_t in, int64_t samples = 2000) {
  const Tensor mixed = at::matmul(at::randn({samples, in / 4}), at::randn({in / 4, in}));
  const Tensor x = (mixed + 0.3 * at::randn({samples, in})).to(at::kDouble);
  return at::matmul(x.t(), x) / static_cast<double>(samples);
}

// e M e^T summed over rows
double output_error(const Tensor& W, const QuantizedTensor& q, const Tensor& M) {
  const Tensor e = (W - dequantize(q)).to(at::kDouble);
  return (at::matmul(e, M.to(at::kDouble)) * e).sum().item<double>();
}

std::vector<WeightScheme> schemes() {
  return {{4, Granularity::kChannel},
          {4, Granularity::kTensor},
          {4, Granularity::kGroup, 16, true},
          {4, Granularity::kChannel, 0, false, false},
          {3, Granularity::kGroup, 20, false, false}};
}

// The paper's algorithm 1 as it stands there, without blocks: the Cholesky factor of the inverse, float64.
QuantizedTensor paper_gptq(const Tensor& W, const Tensor& M, const WeightScheme& scheme, double damping) {
  const int64_t in = W.size(1);
  const Tensor H = M + damping * M.diagonal().mean() * at::eye(in, M.options());
  const Tensor U = at::linalg_cholesky(at::linalg_inv(H), /*upper=*/true);
  Tensor w = W.to(at::kDouble).clone();
  const bool grouped = scheme.granularity == Granularity::kGroup;
  const int64_t group = grouped ? scheme.group : in;
  WeightGrid grid = weight_grid(W, scheme);
  std::vector<Tensor> codes, scales, zeros;
  for (int64_t j = 0; j < in; ++j) {
    if (grouped && j % group == 0) {
      grid = weight_grid(w.slice(1, j, std::min(in, j + group)).to(at::kFloat), scheme);
    }
    const Tensor column = w.slice(1, j, j + 1);
    WeightScheme alone = scheme;  // the column with the grid as it is
    alone.group = 1;
    const QuantizedTensor q = round_on_grid(column, grid, alone);
    const Tensor error = (column - dequantize(q).to(at::kDouble)) / U[j][j];
    w.slice(1, j + 1).sub_(at::matmul(error, U.slice(0, j, j + 1).slice(1, j + 1)));
    codes.push_back(q.codes);
    if (j % group == 0) scales.push_back(grid.scale);
    if (j % group == 0 && !scheme.symmetric) zeros.push_back(grid.zero);
  }
  return {at::cat(codes, 1), at::cat(scales, -1), zeros.empty() ? Tensor() : at::cat(zeros, -1), scheme};
}

TEST(Gptq, EqualsThePapersFormulas) {
  at::manual_seed(1);
  const Tensor W = at::randn({10, 50}), M = correlated_moment(50);
  for (const WeightScheme& scheme : schemes()) {
    const QuantizedTensor expected = paper_gptq(W, M, scheme, 0.01);
    for (const int64_t block : {128, 48, 16, 7, 1}) {
      const QuantizedTensor q = gptq(W, M, {}, scheme, {.block = block});
      EXPECT_TRUE(at::equal(q.codes, expected.codes)) << granularity_name(scheme.granularity) << block;
      EXPECT_TRUE(at::allclose(q.scale, expected.scale, 1e-5, 0));
      EXPECT_EQ(q.zero.defined(), !scheme.symmetric);
      if (!scheme.symmetric) {
        EXPECT_TRUE(at::equal(q.zero, expected.zero));
      }
    }
  }
}

TEST(Gptq, LosesFarLessThanRoundingToNearest) {
  at::manual_seed(2);
  const Tensor W = at::randn({96, 160}), M = correlated_moment(160);
  for (const WeightScheme& scheme : schemes()) {
    const double nearest = output_error(W, round_to_nearest(W, scheme), M);
    for (const bool ordered : {false, true}) {
      GptqOptions options;
      options.order_by_activation = ordered;
      EXPECT_LT(output_error(W, gptq(W, M, {}, scheme, options), M), 0.5 * nearest)
          << granularity_name(scheme.granularity) << scheme.bits << ordered;
    }
  }
}

TEST(Gptq, EqualsRoundingToNearestWhereChannelsAreIndependent) {
  at::manual_seed(3);
  const Tensor W = at::randn({20, 70}), M = at::diag(at::rand({70}) + 0.1);
  for (const WeightScheme& scheme : schemes()) {
    const QuantizedTensor nearest = round_to_nearest(W, scheme);
    for (const bool ordered : {false, true}) {
      GptqOptions options;
      options.order_by_activation = ordered;
      const QuantizedTensor q = gptq(W, M, {}, scheme, options);
      EXPECT_TRUE(at::equal(q.codes, nearest.codes)) << granularity_name(scheme.granularity) << ordered;
      EXPECT_TRUE(at::equal(q.scale, nearest.scale));
      EXPECT_EQ(q.scale.sizes(), nearest.scale.sizes());
    }
  }
}

TEST(Gptq, UsesTheGridThatIsGiven) {
  at::manual_seed(4);
  const Tensor W = at::randn({20, 64}), M = correlated_moment(64);
  for (const WeightScheme& scheme : schemes()) {
    const WeightGrid grid = weight_grid(W, scheme, at::full({1}, 0.8));
    const QuantizedTensor q = gptq(W, M, grid, scheme);
    EXPECT_TRUE(at::equal(q.scale, grid.scale));
    if (!scheme.symmetric) {
      EXPECT_TRUE(at::equal(q.zero, grid.zero));
    }
    EXPECT_LT(output_error(W, q, M), output_error(W, round_on_grid(W, grid, scheme), M));
  }
}

TEST(Gptq, ClipShrinksTheGridsOfGroupsMadeOnTheWay) {
  at::manual_seed(5);
  const Tensor W = at::randn({70, 64}), M = at::diag(at::rand({64}) + 0.1);
  const WeightScheme scheme{4, Granularity::kGroup, 16};
  const Tensor clips = at::rand({70, 4}) * 0.4 + 0.6;
  for (const Tensor& clip : {clips, at::full({1}, 0.7)}) {
    GptqOptions options;
    options.clip = clip;
    const QuantizedTensor q = gptq(W, M, {}, scheme, options);
    EXPECT_TRUE(at::equal(q.scale, weight_grid(W, scheme, clip).scale));
    EXPECT_TRUE(at::equal(q.codes, round_to_nearest(W, scheme, clip).codes));
  }
}

TEST(Gptq, SearchedClipsLoseLessThanNone) {
  at::manual_seed(12);
  const Tensor W = at::randn({70, 64}) * at::randn({70, 64}).abs().pow(2), M = correlated_moment(64);
  for (const WeightScheme& scheme : schemes()) {
    if (scheme.granularity == Granularity::kTensor) continue;
    for (const bool ordered : {false, true}) {
      GptqOptions options;
      options.order_by_activation = ordered;
      const double plain = output_error(W, gptq(W, M, {}, scheme, options), M);
      options.search_clips = true;
      EXPECT_LT(output_error(W, gptq(W, M, {}, scheme, options), M), plain) << ordered;
    }
  }
}

// e M e^T of every row. [out] float64
Tensor row_errors(const Tensor& W, const QuantizedTensor& q, const Tensor& M) {
  const Tensor e = (W - dequantize(q)).to(at::kDouble);
  return (at::matmul(e, M) * e).sum(1);
}

TEST(Gptq, SearchedClipIsTheBestOfSevenForEachRow) {
  at::manual_seed(13);
  const int64_t in = 64;
  const Tensor W = at::randn({70, in}) * at::randn({70, in}).abs().pow(2), M = correlated_moment(in);
  const Tensor damped = M + 0.01 * M.diagonal().mean() * at::eye(in, M.options());
  std::vector<WeightScheme> whole_rows = schemes();
  for (WeightScheme& scheme : whole_rows) {
    if (scheme.granularity == Granularity::kTensor) continue;
    if (scheme.granularity == Granularity::kGroup) scheme.group = in;  // one group a row
    GptqOptions options;
    std::vector<Tensor> tried;
    for (int i = 0; i < kGptqClips; ++i) {
      options.clip = at::full({1}, 1 - 0.05 * i);
      tried.push_back(row_errors(W, gptq(W, M, {}, scheme, options), damped));
    }
    options.search_clips = true;
    const Tensor chosen = row_errors(W, gptq(W, M, {}, scheme, options), damped);
    const Tensor least = at::stack(tried).amin(0);
    EXPECT_TRUE(at::allclose(chosen, least, 1e-4, 0)) << granularity_name(scheme.granularity);
    EXPECT_LT(least.sum().item<double>(), 0.9 * tried[0].sum().item<double>());
  }
}

TEST(Gptq, GroupsThatShareNoInputsChooseTheirClipsAlone) {
  at::manual_seed(14);
  const int64_t group = 16;
  const Tensor W = at::randn({30, 3 * group}) * at::randn({30, 3 * group}).abs().pow(2);
  std::vector<Tensor> moments;
  for (int i = 0; i < 3; ++i) moments.push_back(correlated_moment(group));
  const WeightScheme scheme{4, Granularity::kGroup, group};
  GptqOptions options;
  options.search_clips = true;
  options.damping = 0;
  const QuantizedTensor all = gptq(W, at::block_diag(moments), {}, scheme, options);
  for (int i = 0; i < 3; ++i) {
    const Tensor own = W.narrow(1, i * group, group).contiguous();
    const QuantizedTensor alone = gptq(own, moments[static_cast<size_t>(i)], {}, scheme, options);
    EXPECT_TRUE(at::equal(all.codes.narrow(1, i * group, group), alone.codes));
    EXPECT_TRUE(at::equal(all.scale.narrow(1, i, 1), alone.scale));
  }
  const Tensor factors = all.scale / weight_grid(W, scheme).scale;
  EXPECT_NEAR(factors.max().item<double>(), 1, 1e-5);
  EXPECT_LT(factors.min().item<double>(), 0.8);
}

TEST(Gptq, GridThatIsGivenIsNotSearchedFor) {
  at::manual_seed(15);
  const Tensor W = at::randn({20, 64}), M = correlated_moment(64);
  GptqOptions options;
  options.search_clips = true;
  for (const WeightScheme& scheme : schemes()) {
    if (scheme.granularity == Granularity::kTensor) continue;
    const WeightGrid grid = weight_grid(W, scheme);
    const QuantizedTensor q = gptq(W, M, grid, scheme, options);
    EXPECT_TRUE(at::equal(q.scale, grid.scale));
    EXPECT_TRUE(at::equal(q.codes, gptq(W, M, grid, scheme).codes));
  }
}

TEST(Gptq, DeadChannelGetsTheCodeOfZeroAndWidensNoGrid) {
  at::manual_seed(6);
  Tensor W = at::randn({8, 48}), M = correlated_moment(48);
  const int64_t dead = 21;
  M.select(0, dead).zero_();
  M.select(1, dead).zero_();
  const Tensor without = W.clone();
  without.select(1, dead).zero_();
  W.select(1, dead).fill_(100);
  for (const WeightScheme& scheme : schemes()) {
    const QuantizedTensor q = gptq(W, M, {}, scheme);
    EXPECT_EQ(dequantize(q).select(1, dead).abs().max().item<float>(), 0);
    EXPECT_TRUE(at::equal(q.codes, gptq(without, M, {}, scheme).codes));
    if (scheme.granularity == Granularity::kTensor) continue;
    GptqOptions options;
    options.search_clips = true;
    const QuantizedTensor searched = gptq(W, M, {}, scheme, options);
    EXPECT_EQ(dequantize(searched).select(1, dead).abs().max().item<float>(), 0);
    EXPECT_TRUE(at::equal(searched.codes, gptq(without, M, {}, scheme, options).codes));
  }
  const QuantizedTensor all_dead = gptq(W, at::zeros({48, 48}), {}, {});
  EXPECT_EQ(all_dead.codes.abs().max().item<int>(), 0);
}

TEST(Gptq, SingularMomentIsDamped) {
  at::manual_seed(7);
  const Tensor W = at::randn({32, 96}), x = at::randn({10, 96});
  const Tensor M = at::matmul(x.t(), x) / 10;  // rank 10
  const WeightScheme scheme{4, Granularity::kChannel};
  const double nearest = output_error(W, round_to_nearest(W, scheme), M);
  EXPECT_LT(output_error(W, gptq(W, M, {}, scheme), M), 0.5 * nearest);
  EXPECT_LT(output_error(W, gptq(W, M, {}, scheme, {.damping = 0}), M), 0.5 * nearest);
}

TEST(Gptq, MomentThatIsNoneIsAnError) {
  const Tensor W = at::ones({2, 3}), eye = at::eye(3);
  EXPECT_THROW(gptq(W, eye - 2 * at::ones({3, 3}), {}, {}), Error);
  EXPECT_THROW(gptq(W, eye * NAN, {}, {}), Error);
  EXPECT_THROW(gptq(W, at::eye(4), {}, {}), c10::Error);
}

TEST(Gptq, OneAndTwoThreadsGiveTheSameBits) {
  at::manual_seed(8);
  const Tensor M = correlated_moment(300);
  for (const int64_t out : {200, 40}) {  // several pieces of rows, and one
    const Tensor W = at::randn({out, 300});
    for (const WeightScheme& scheme : schemes()) {
      for (const bool search : {false, true}) {
        if (search && scheme.granularity == Granularity::kTensor) continue;
        GptqOptions options;
        options.search_clips = search;
        at::set_num_threads(1);
        const QuantizedTensor one = gptq(W, M, {}, scheme, options);
        at::set_num_threads(2);
        const QuantizedTensor two = gptq(W, M, {}, scheme, options);
        EXPECT_EQ(at::get_num_threads(), 2);
        at::set_num_threads(1);
        EXPECT_TRUE(at::equal(one.codes, two.codes));
        EXPECT_TRUE(at::equal(one.scale, two.scale));
      }
    }
  }
}

TEST(Gptq, WorksWhereTensorsKeepNoHistory) {
  at::manual_seed(9);
  const Tensor W = at::randn({130, 300}), M = correlated_moment(300);
  const WeightScheme scheme{4, Granularity::kGroup, 64};
  const Tensor codes = gptq(W, M, {}, scheme).codes;
  at::set_num_threads(2);
  const c10::InferenceMode inference;
  EXPECT_TRUE(at::equal(gptq(W, M, {}, scheme).codes, codes));
  at::set_num_threads(1);
}

TEST(Gptq, RowsAreIndependentAndStridesDoNotMatter) {
  at::manual_seed(10);
  const Tensor W = at::randn({150, 90}).t().contiguous().t(), M = correlated_moment(90).to(at::kFloat);
  const WeightScheme scheme{4, Granularity::kChannel};
  const QuantizedTensor q = gptq(W, M, {}, scheme);
  const QuantizedTensor part = gptq(W.slice(0, 64, 128).contiguous(), M, {}, scheme);
  EXPECT_TRUE(at::equal(q.codes.slice(0, 64, 128), part.codes));
}

}  // namespace
}  // namespace ptq
