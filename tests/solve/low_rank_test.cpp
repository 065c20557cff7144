// Low-rank corrections in closed form: hand-worked examples, properties, and where the second moment is
// unusual.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "ptq/codec/quantized_tensor.h"
#include "ptq/solve/low_rank.h"
#include "ptq/solve/rank_budget.h"

namespace ptq {
namespace {

Tensor matrix(std::initializer_list<std::vector<double>> rows) {
  std::vector<Tensor> list;
  for (const std::vector<double>& row : rows) list.push_back(at::tensor(row, at::kDouble));
  return at::stack(list);
}

// The second moment of `tokens` inputs whose channels differ in size and go together. [in, in] float64
Tensor moment(int64_t in, int64_t tokens) {
  const Tensor mixing = at::randn({in, in}, at::kDouble) *
                        at::exp(at::arange(in, at::kDouble) * (4.0 / static_cast<double>(in)));
  const Tensor x = at::randn({tokens, in}, at::kDouble).matmul(mixing);
  return x.t().matmul(x) / tokens;
}

Tensor correction(const Tensor& D, const InputMetric& metric, int64_t rank, int64_t formed_up_to = 2048) {
  const LowRankSolution solution = solve_low_rank(D, metric, {rank, formed_up_to, 0});
  const auto [A, B] = low_rank_factors(solution.V, D);
  return B.matmul(A);
}

double left(const Tensor& D, const Tensor& C, const Tensor& R) {
  return output_energy(D.to(at::kDouble) - C, R);
}

TEST(InputMetric, QuadraticFormIsDRDForEverySize) {
  at::manual_seed(21);
  for (const int64_t in : {1, 40, 192, 500}) {
    const Tensor x = at::randn({in + 10, in}, at::kDouble), R = x.t().matmul(x),
                 D = at::randn({30, in}, at::kDouble);
    for (const InputMetric& metric : {InputMetric::full(R), InputMetric::diagonal(R.diagonal())}) {
      const Tensor G = metric.quadratic_form(D), expected = metric.times(D).matmul(D.t());
      EXPECT_TRUE(at::allclose(G, expected, 1e-12, 1e-10 * expected.abs().max().item<double>())) << in;
    }
  }
}

TEST(LowRank, EqualsTheExampleWorkedByHand) {
  const Tensor R = matrix({{4, 1}, {1, 2}}), E = matrix({{1, 0, 2}, {0, 1, -1}});
  const LowRankSolution solution = solve_low_rank(E.t().contiguous(), InputMetric::full(R), {1, 2048, 0});
  EXPECT_NEAR(solution.energy, 20, 1e-12);
  EXPECT_NEAR(solution.eigenvalues[0].item<double>(), 17.6157731059, 1e-9);
  const Tensor C = correction(E.t().contiguous(), InputMetric::full(R), 1);
  const Tensor expected =
      matrix({{1.02522573, .06565322, 1.98479825}, {-.3939193, -.02522573, -.76261287}}).t();
  EXPECT_TRUE(at::allclose(C, expected, 0, 1e-7)) << C;
  EXPECT_NEAR(left(E.t(), C, R), 2.3842268941, 1e-9);
}

TEST(LowRank, ScaleOfTheInputsDoesNotMatter) {
  at::manual_seed(1);
  const Tensor D = at::randn({12, 20}), R = moment(20, 100);
  const Tensor C = correction(D, InputMetric::full(R), 4);
  EXPECT_TRUE(at::allclose(correction(D, InputMetric::full(R * 1e6), 4), C, 1e-9, 1e-10));
}

TEST(LowRank, ErrorFallsWithTheRankToNothing) {
  at::manual_seed(2);
  for (const auto& [out, in] : {std::pair{12, 20}, {20, 12}, {16, 16}}) {
    const Tensor D = at::randn({out, in}), R = moment(in, 200);
    double before = output_energy(D.to(at::kDouble), R);
    for (int64_t rank = 1; rank <= 12; ++rank) {
      const LowRankSolution solution = solve_low_rank(D, InputMetric::full(R), {rank, 2048, 0});
      const double after = left(D, correction(D, InputMetric::full(R), rank), R);
      EXPECT_LT(after, before * (1 + 1e-12));
      EXPECT_NEAR(after, solution.energy - solution.eigenvalues.sum().item<double>(), 1e-9 * solution.energy);
      before = after;
    }
    EXPECT_LT(before, (out == in ? 1 : 1e-12) * output_energy(D.to(at::kDouble), R));
  }
}

TEST(LowRank, NoVariantBeatsTheExactOneAndNoneIsWorseThanNothing) {
  at::manual_seed(3);
  for (const auto& [out, in] : {std::pair{24, 40}, {40, 24}}) {
    const Tensor D = at::randn({out, in}), R = moment(in, 300);
    const double exact = left(D, correction(D, InputMetric::full(R), 6), R);
    const Tensor ones = at::ones({in}, at::kDouble);
    for (const InputMetric& other :
         {InputMetric::full(R, .1), InputMetric::full(R, 1), InputMetric::diagonal(R.diagonal().sqrt()),
          InputMetric::diagonal(ones)}) {
      const double energy = left(D, correction(D, other, 6), R);
      EXPECT_GE(energy, exact * (1 - 1e-9));
    }
    EXPECT_LT(exact, output_energy(D.to(at::kDouble), R));
  }
}

TEST(LowRank, CorrectionIsAProjectionThatHelpsEveryInput) {
  at::manual_seed(4);
  const Tensor D = at::randn({24, 40}), R = moment(40, 300);
  const Tensor C = correction(D, InputMetric::full(R), 6);
  const Tensor x = at::randn({500, 40}, at::kDouble);
  const Tensor before = x.matmul(D.to(at::kDouble).t()).norm(2, 1), after = x.matmul((D - C).t()).norm(2, 1);
  EXPECT_TRUE((after <= before * (1 + 1e-9)).all().item<bool>());
}

TEST(LowRank, FewerTokensThanInputsAreSolvedWithoutDamping) {
  at::manual_seed(5);
  for (const auto& [out, in] : {std::pair{24, 40}, {40, 24}}) {
    const Tensor D = at::randn({out, in});
    for (const int64_t tokens : {1, 5, 15}) {
      const Tensor R = moment(in, tokens);
      const Tensor C = correction(D, InputMetric::full(R), 5);
      EXPECT_TRUE(at::isfinite(C).all().item<bool>());
      const double before = output_energy(D.to(at::kDouble), R);
      EXPECT_LT(left(D, C, R), tokens <= 5 ? 1e-9 * before : before);
    }
  }
}

TEST(LowRank, DeadChannelsAndZeroErrorsAreNoTrouble) {
  at::manual_seed(6);
  Tensor R = moment(20, 100);
  R.slice(0, 3, 6).zero_();
  R.slice(1, 3, 6).zero_();
  for (const int64_t out : {12, 30}) {
    const Tensor D = at::randn({out, 20});
    const Tensor C = correction(D, InputMetric::full(R), 4);
    EXPECT_LT(left(D, C, R), output_energy(D.to(at::kDouble), R));
    const LowRankSolution nothing = solve_low_rank(at::zeros_like(D), InputMetric::full(R), {4, 2048, 0});
    EXPECT_EQ(nothing.V.size(1), 0);
    EXPECT_EQ(nothing.energy, 0);
    const auto [A, B] = low_rank_factors(nothing.V, at::zeros_like(D));
    EXPECT_EQ(A.size(0), 0);
    const LowRankSolution dead = solve_low_rank(D, InputMetric::full(at::zeros_like(R)), {4, 2048, 0});
    EXPECT_EQ(dead.V.size(1), 0);
  }
}

TEST(LowRank, RankBeyondThatOfTheErrorGivesTheErrorItself) {
  at::manual_seed(7);
  const Tensor D = at::randn({20, 3}, at::kDouble).matmul(at::randn({3, 30}, at::kDouble));
  const Tensor C = correction(D, InputMetric::full(moment(30, 200)), 8);
  EXPECT_TRUE(at::allclose(C, D, 1e-6, 1e-8));
}

TEST(LowRank, DiagonalMomentMakesExactAndApproximateEqual) {
  at::manual_seed(8);
  const Tensor D = at::randn({16, 24}), d = at::rand({24}, at::kDouble) + .1;
  const Tensor exact = correction(D, InputMetric::full(at::diag(d)), 5);
  EXPECT_TRUE(at::allclose(exact, correction(D, InputMetric::diagonal(d), 5), 1e-8, 1e-9));
}

TEST(LowRank, IterativeSolutionIsWithinAHundredThousandthOfTheExactOne) {
  at::manual_seed(9);
  for (const auto& [out, in] : {std::pair{150, 200}, {200, 150}}) {
    const Tensor D = at::randn({out, in}), R = moment(in, 1000);
    const double exact = left(D, correction(D, InputMetric::full(R), 8), R);
    EXPECT_LT(left(D, correction(D, InputMetric::full(R), 8, /*formed_up_to=*/100), R), exact * (1 + 1e-5));
  }
}

TEST(LowRank, FactorsAreBalancedAndTheirSignsFixed) {
  at::manual_seed(10);
  const Tensor D = at::randn({16, 24}), R = moment(24, 100);
  const LowRankSolution solution = solve_low_rank(D, InputMetric::full(R), {5, 2048, 0});
  const auto [A, B] = low_rank_factors(solution.V, D);
  EXPECT_TRUE(at::allclose(A.norm(2, 1), B.norm(2, 0)));
  EXPECT_TRUE((B.gather(0, B.abs().argmax(0, true)) > 0).all().item<bool>());
}

TEST(LowRank, EnergyOfRoundedFactorsNeedsNoWideProduct) {
  at::manual_seed(11);
  const Tensor D = at::randn({16, 24}), R = moment(24, 100);
  const LowRankSolution solution = solve_low_rank(D, InputMetric::full(R), {5, 2048, 0});
  const auto [A, B] = low_rank_factors(solution.V, D);
  const Tensor a = A.to(at::kBFloat16).to(at::kFloat), b = B.to(at::kBFloat16).to(at::kFloat);
  const double expected = left(D, b.to(at::kDouble).matmul(a.to(at::kDouble)), R);
  EXPECT_NEAR(corrected_energy(solution.energy, D, a, b, R) / expected, 1, 1e-9);
}

TEST(Alternate, NeverKeepsARoundThatLeavesMore) {
  at::manual_seed(12);
  const Tensor W = at::randn({16, 24}), R = moment(24, 100);
  double before = std::numeric_limits<double>::infinity();
  for (int rounds = 1; rounds <= 6; ++rounds) {
    const AlternatingSolution found =
        alternate(W, InputMetric::full(R), {3, 2048, 0}, rounds,
                  [](const Tensor& target, int) { return (target * 2).round() / 2; });
    const double energy = found.correction.energy - found.correction.eigenvalues.sum().item<double>();
    EXPECT_LE(energy, before);
    EXPECT_LT(found.round, rounds);
    before = energy;
  }
}

TEST(Alternate, RoughRoundsLeaveHardlyMoreThanExactOnes) {
  at::manual_seed(12);
  WeightScheme scheme{3, Granularity::kGroup, 32};
  scheme.format = NumberFormat::kMxint;
  const auto round = [&](const Tensor& target, int) { return dequantize(round_to_nearest(target, scheme)); };
  for (const auto& [out, in] : {std::pair{96, 160}, {160, 96}}) {
    const Tensor W = at::randn({out, in});
    for (const InputMetric& metric :
         {InputMetric::full(moment(in, 1000)), InputMetric::diagonal(at::rand({in}, at::kDouble) + .1)}) {
      LowRankOptions options{8, 2048, 0};
      const auto left = [&](int rounds) {
        const AlternatingSolution found = alternate(W, metric, options, rounds, round);
        return found.correction.energy - found.correction.eigenvalues.sum().item<double>();
      };
      const double once = left(1), exact = left(4);
      options.exact_rounds_up_to = 0;
      EXPECT_LT(left(4), once) << out;
      EXPECT_LT(left(4), exact * 1.02) << out;
      EXPECT_EQ(left(1), once);
    }
  }
}

TEST(ShareRanks, TakesTheLargestGainAByteThatFits) {
  EXPECT_EQ(share_ranks({{{9, 1}, 10}, {{8, 7}, 20}}, 50), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(share_ranks({{{9, 8}, 100}, {{1}, 1}}, 99), (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(share_ranks({{{0, 0}, 1}}, 99), (std::vector<int64_t>{0}));
  EXPECT_EQ(share_ranks({}, 99), (std::vector<int64_t>{}));
}

}  // namespace
}  // namespace ptq
