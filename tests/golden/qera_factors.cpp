// Cases of sort q2: the product of the factors where it is unique, and the energy that is left.
#include "qera_cases.h"

#include "memory_source.h"
#include "ptq/base/json.h"
#include "ptq/codec/quantized_tensor.h"
#include "ptq/solve/low_rank.h"

namespace ptq::golden {
namespace {

constexpr double kProduct = 1e-6;      // of max |C|, float64
constexpr double kEnergy = 1e-6;       // of the expected energy...
constexpr double kEnergyFloor = 1e-9;  // ...and of that without correction
constexpr double kKrylov = 1e-5;       // excess of the iterative route
constexpr double kLaterRounds = 1e-2;  // of alternation, once a tie may have been rounded otherwise
constexpr size_t kCloseRounds = 2;

Tensor second_moment_of(const CaseTensors& tensors) {
  if (tensors.has("R")) return tensors["R"].to(at::kDouble);
  const Tensor X = tensors["X"].to(at::kDouble);
  return X.t().matmul(X) / X.size(0);
}

InputMetric metric_of(const std::string& mode, const Tensor& R, const CaseTensors& tensors) {
  if (mode == "exact") return InputMetric::full(R);
  if (mode == "approx") return InputMetric::diagonal(R.diagonal());
  if (mode == "lqer") return InputMetric::diagonal(tensors["X"].to(at::kDouble).abs().mean(0).square());
  return InputMetric::diagonal(at::ones({R.size(0)}, at::kDouble));
}

bool energy_near(double ours, double expected, double without) {
  return std::abs(ours - expected) <= kEnergy * expected + kEnergyFloor * without;
}

// C is unique where its directions are: not if the JSON's energies say that nothing is left to choose by.
void check_mode(const std::string& mode, const Json& expected, const Json& test, const CaseTensors& tensors,
                Checks& checks) {
  const Tensor D = tensors["W"] - tensors["Wq"], R = second_moment_of(tensors);
  const double without = test.at("energy_without_correction").get<double>();
  LowRankOptions options;
  options.rank = test.at("rank").get<int64_t>();
  const LowRankSolution solution = solve_low_rank(D, metric_of(mode, R, tensors), options);
  const auto [A, B] = low_rank_factors(solution.V, D);
  const Tensor C = B.matmul(A);
  const double left = output_energy(D.to(at::kDouble) - C, R);
  checks.expect(at::isfinite(C).all().item<bool>(), mode + ": factors are not finite");
  checks.expect(energy_near(left, expected.at("residual_energy_in_R").get<double>(), without),
                mode + ": leaves " + std::to_string(left) + " of " + std::to_string(without));
  checks.expect(energy_near(corrected_energy(output_energy(D.to(at::kDouble), R), D, A, B, R), left, without),
                mode + ": the energy from the factors differs");
  checks.expect(left <= without * (1 + 1e-9), mode + ": worse than no correction");
  checks.expect(at::isfinite(A).all().item<bool>() && A.size(0) <= options.rank, mode + ": too many factors");
  const std::string name = "C_" + mode;
  if (tensors.has(name)) checks.near(name, C, tensors[name], kProduct);
  if (tensors.has("eigenvalues_" + mode)) {
    const Tensor expected_values = tensors["eigenvalues_" + mode];  // zeros where directions were dropped
    const int64_t missing = expected_values.numel() - solution.eigenvalues.numel();
    checks.near(mode + " eigenvalues", at::constant_pad_nd(solution.eigenvalues, {0, missing}),
                expected_values, kEnergy);
  }
}

// The iterative route, which leaves hardly more than the optimum.
void check_products(const Json& test, const CaseTensors& tensors, Checks& checks) {
  const Tensor D = tensors["W"] - tensors["Wq"], R = second_moment_of(tensors);
  const double without = test.at("energy_without_correction").get<double>();
  const double optimum = test.at("modes").at("exact").at("residual_energy_in_R").get<double>();
  LowRankOptions options;
  options.rank = test.at("rank").get<int64_t>();
  options.formed_up_to = 1;
  const LowRankSolution solution = solve_low_rank(D, InputMetric::full(R), options);
  const double left = solution.energy - solution.eigenvalues.sum().item<double>();
  checks.expect(left <= optimum * (1 + kKrylov) + kEnergyFloor * without,
                "iterative: leaves " + std::to_string(left) + ", the optimum " + std::to_string(optimum));
}

void check_shrinkage(const Json& test, const CaseTensors& tensors, Checks& checks) {
  const Tensor D = tensors["W"] - tensors["Wq"], R = second_moment_of(tensors);
  const double without = output_energy(D.to(at::kDouble), R);
  LowRankOptions options;
  options.rank = test.at("rank").get<int64_t>();
  for (const auto& [a, expected] : test.at("a").items()) {
    const LowRankSolution solution = solve_low_rank(D, InputMetric::full(R, std::stod(a)), options);
    const auto [A, B] = low_rank_factors(solution.V, D);
    const Tensor C = B.matmul(A);
    checks.near("C_" + a, C, tensors["C_" + a], kProduct);
    checks.expect(energy_near(output_energy(D.to(at::kDouble) - C, R),
                              expected.at("residual_energy_in_R").get<double>(), without),
                  "shrinkage " + a + ": another energy");
  }
}

void check_alternation(const Json& test, const CaseTensors& tensors, Checks& checks) {
  const Tensor W = tensors["W"], R = second_moment_of(tensors);
  const auto energies = test.at("residual_energy").get<std::vector<double>>();
  WeightScheme scheme;
  scheme.bits = 3;
  scheme.format = NumberFormat::kMxint;
  scheme.granularity = Granularity::kGroup;
  scheme.group = kMxintGroup;
  LowRankOptions options;
  options.rank = 8;
  std::vector<Tensor> rounded;
  const InputMetric metric = InputMetric::full(R);
  for (size_t rounds = 1; rounds <= energies.size(); ++rounds) {
    rounded.clear();
    const AlternatingSolution found =
        alternate(W, metric, options, static_cast<int>(rounds), [&](const Tensor& target, int) {
          rounded.push_back(dequantize(round_to_nearest(target, scheme)));
          return rounded.back();
        });
    const auto best = std::min_element(energies.begin(), energies.begin() + static_cast<int64_t>(rounds));
    const double left = found.correction.energy - found.correction.eigenvalues.sum().item<double>();
    const double tolerance = rounds <= kCloseRounds ? kEnergy : kLaterRounds;
    checks.near("rounds " + std::to_string(rounds), left, *best, tolerance);
    if (rounds <= kCloseRounds) {
      checks.equal("Wq_" + std::to_string(rounds - 1), rounded.back(),
                   tensors["Wq_" + std::to_string(rounds - 1)]);
    }
    if (rounds == energies.size()) {
      checks.expect(found.round == test.at("best_round").get<int>(), "another round was best");
    }
  }
}

}  // namespace

void run_qera_factors(const std::filesystem::path& json_path, Checks& checks) {
  const Json test = read_json_file(json_path.string());
  const CaseTensors tensors(json_path);
  if (test.contains("modes")) {
    for (const auto& [mode, expected] : test.at("modes").items())
      check_mode(mode, expected, test, tensors, checks);
    if (test.at("modes").contains("exact")) check_products(test, tensors, checks);
  } else if (test.contains("a")) {
    check_shrinkage(test, tensors, checks);
  } else {
    check_alternation(test, tensors, checks);
  }
}

}  // namespace ptq::golden
