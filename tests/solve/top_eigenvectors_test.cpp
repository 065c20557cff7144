// The leading eigenvectors against the full decomposition.
#include "solve/top_eigenvectors.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>

namespace ptq {
namespace {

// Eigenvalues that fall by `decay` over all of them. [n, n] float64
Tensor matrix(int64_t n, double decay) {
  const Tensor Q = std::get<0>(at::linalg_qr(at::randn({n, n}, at::kDouble)));
  const Tensor values = at::exp(at::arange(n, at::kDouble) * (-decay / static_cast<double>(n)));
  return (Q * values).matmul(Q.t());
}

void expect_leading(const Eigenpairs& found, const Tensor& G, int64_t count) {
  const int64_t n = G.size(0);
  const Tensor all = std::get<0>(at::linalg_eigh(G)).flip({0});
  ASSERT_EQ(found.values.size(0), count);
  ASSERT_EQ(found.vectors.sizes(), (std::vector<int64_t>{n, count}));
  const double trace = all.abs().sum().item<double>();
  const double missing = (all.slice(0, 0, count).sum() - found.values.sum()).item<double>();
  EXPECT_LE(std::abs(missing), 1e-12 * trace) << n << " " << count;
  const Tensor gram = found.vectors.t().matmul(found.vectors);
  EXPECT_LT((gram - at::eye(count, at::kDouble)).abs().max().item<double>(), 1e-12) << n << " " << count;
  const double kept = (found.vectors * G.matmul(found.vectors)).sum().item<double>();
  EXPECT_LE(std::abs(kept - found.values.sum().item<double>()), 1e-12 * trace);
}

TEST(TopEigenvectors, HoldWhatTheFullDecompositionHolds) {
  at::manual_seed(1);
  for (const double decay : {2.0, 10.0, 40.0}) {
    for (const auto& [n, count] : {std::pair<int64_t, int64_t>{50, 8}, {250, 16}, {400, 8}, {400, 400}}) {
      const Tensor G = matrix(n, decay);
      expect_leading(top_eigenvectors(G, count), G, count);
    }
  }
}

TEST(TopEigenvectors, OfAMapAreThoseOfItsMatrix) {
  at::manual_seed(2);
  for (const auto& [n, count] : {std::pair<int64_t, int64_t>{5, 2}, {40, 4}, {300, 12}}) {
    const Tensor G = matrix(n, 12);
    const auto times = [&](const Tensor& columns) { return G.matmul(columns); };
    expect_leading(top_eigenvectors(times, n, count, G.options(), 7), G, count);
  }
}

// The space of few directions is exhausted at once, and zero has none.
TEST(TopEigenvectors, OfLowRankAndOfZero) {
  at::manual_seed(3);
  const Tensor few = at::randn({300, 3}, at::kDouble);
  for (const Tensor& G :
       {few.matmul(few.t()), at::zeros({300, 300}, at::kDouble), at::eye(300, at::kDouble)}) {
    const Eigenpairs found = top_eigenvectors(G, 10);
    EXPECT_TRUE(found.vectors.isfinite().all().item<bool>());
    expect_leading(found, G, 10);
  }
}

TEST(TopEigenvectors, OneAndTwoThreadsGiveTheSameBits) {
  at::manual_seed(4);
  const Tensor G = matrix(400, 10);
  const Eigenpairs one = top_eigenvectors(G, 16);
  at::set_num_threads(2);
  const Eigenpairs two = top_eigenvectors(G, 16);
  at::set_num_threads(1);
  EXPECT_TRUE(at::equal(one.vectors, two.vectors));
}

}  // namespace
}  // namespace ptq
