// bench_low_rank [hidden intermediate key_value rank]: CPU seconds to solve the corrections of one
// transformer block, in our form and in that of QERA's authors, on one thread; the default is a block of
// SmolLM2-135M.
//
// The authors' form takes the root of R and its inverse, and the singular value decomposition of R^(1/2) E
// (arXiv 2410.06040, theorem 2; ChengZhang-98/QERA). Here the root is made from eigenvectors, once a site,
// which is faster than their Schur form. Both get the same statistics; first their results are compared.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "bench_block.h"
#include "ptq/codec/quantized_tensor.h"
#include "ptq/solve/low_rank.h"

namespace {

using ptq::cpu_seconds;
using ptq::Tensor;

struct Layer {
  const char* name;
  const char* site;
  int64_t out, in;
};

// The root of R and its inverse.
std::pair<Tensor, Tensor> roots(const Tensor& R) {
  const auto [values, Q] = at::linalg_eigh(R);
  const Tensor root = values.clamp_min(1e-12 * values[-1].item<double>()).sqrt();
  return {(Q * root).matmul(Q.t()), (Q / root).matmul(Q.t())};
}

// C = (R^(-1/2) SVD_k(R^(1/2) E))^T
Tensor authors_correction(const Tensor& D, const std::pair<Tensor, Tensor>& root, int64_t rank) {
  const auto [U, s, Vt] = at::linalg_svd(root.first.matmul(D.t()), /*full_matrices=*/false);
  const Tensor left = root.second.matmul(U.slice(1, 0, rank) * s.slice(0, 0, rank));
  return left.matmul(Vt.slice(0, 0, rank)).t();
}

Tensor our_correction(const Tensor& D, const ptq::InputMetric& metric, int64_t rank) {
  ptq::LowRankOptions options;
  options.rank = rank;
  const ptq::LowRankSolution solution = ptq::solve_low_rank(D, metric, options);
  const auto [A, B] = ptq::low_rank_factors(solution.V, D);
  return B.matmul(A);
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t hidden = ptq::argument(argc, argv, 1, 576), inner = ptq::argument(argc, argv, 2, 1536);
  const int64_t kv = ptq::argument(argc, argv, 3, 192), rank = ptq::argument(argc, argv, 4, 32);
  if (argc > 5 || std::min({hidden, inner, kv, rank}) < 1) {
    std::fputs("usage: bench_low_rank [HIDDEN [INNER [KEYS_AND_VALUES [RANK]]]]\n", stderr);
    return 2;
  }
  const std::vector<Layer> layers = {
      {"q_proj", "qkv", hidden, hidden},       {"k_proj", "qkv", kv, hidden},
      {"v_proj", "qkv", kv, hidden},           {"o_proj", "o", hidden, hidden},
      {"gate_proj", "gate_up", inner, hidden}, {"up_proj", "gate_up", inner, hidden},
      {"down_proj", "down", hidden, inner}};
  const at::InferenceMode inference;
  at::set_num_threads(1);
  at::manual_seed(1);
  ptq::WeightScheme scheme;
  scheme.bits = 4;
  scheme.format = ptq::NumberFormat::kMxint;
  scheme.granularity = ptq::Granularity::kGroup;
  scheme.group = ptq::kMxintGroup;

  std::map<std::string, Tensor> R;
  std::map<std::string, ptq::InputMetric> metrics;
  std::map<std::string, std::pair<Tensor, Tensor>> site_roots;
  double ours = 0, theirs = 0;
  for (const Layer& layer : layers) {
    if (R.find(layer.site) == R.end()) {
      R[layer.site] = ptq::second_moment(layer.in);
      metrics.emplace(layer.site, ptq::InputMetric::full(R.at(layer.site)));
      const double begin = cpu_seconds();
      site_roots[layer.site] = roots(R.at(layer.site));
      theirs += cpu_seconds() - begin;
    }
    const Tensor W = at::randn({layer.out, layer.in}) * 0.02;
    const Tensor D = (W - ptq::dequantize(ptq::round_to_nearest(W, scheme))).to(at::kDouble);
    double begin = cpu_seconds();
    const Tensor ours_C = our_correction(D, metrics.at(layer.site), rank);
    const double our_time = cpu_seconds() - begin;
    begin = cpu_seconds();
    const Tensor their_C = authors_correction(D, site_roots.at(layer.site), rank);
    const double their_time = cpu_seconds() - begin;
    ours += our_time;
    theirs += their_time;
    const double whole = ptq::output_energy(D, R.at(layer.site));
    std::printf("%-9s [%lld, %lld]  ours %7.3f s, leaves %.9f  authors' form %7.3f s, leaves %.9f\n",
                layer.name, static_cast<long long>(layer.out), static_cast<long long>(layer.in), our_time,
                ptq::output_energy(D - ours_C, R.at(layer.site)) / whole, their_time,
                ptq::output_energy(D - their_C, R.at(layer.site)) / whole);
  }
  std::printf("block: ours %.3f s, authors' form %.3f s with its roots, ratio %.1f\n", ours, theirs,
              theirs / ours);
  return 0;
}
