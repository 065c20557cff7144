// QERA's closed form, without roots and inverses.
//
// Idea. Rounding W leaves an error D in it, and D x in the layer's output. A matrix of low rank beside the
// rounded weight can take back the part of D that matters most, measured where it counts: in the output, over
// the inputs that the layer sees, not in the weights.
//
// Example. Two inputs of which the first is ten times the second. An error of 1 in the weight of the second
// costs a hundredth of an error of 1 in that of the first, and so a rank-1 correction takes the first one
// back, whatever the singular vectors of D say.
//
// Formula. The paper's optimum is C = R^(-1/2) SVD_k(R^(1/2) E) for E = D^T. For any S with S^T S = R, let
// S E = U s V^T: then S^-1 U_k s_k V_k^T = E V_k V_k^T, since S E V_k = U_k s_k. So only V is needed, the top
// eigenvectors of (S E)^T (S E) = E^T R E, and C^T = V_k V_k^T D is a projection of D: no root of R, no
// inverse, no damping, and R may be singular, which it is whenever there are fewer tokens than inputs. The
// authors' route ends hundreds of times worse than no correction there.
//
// Float64 for every solution that is kept: with eigenvalues that fall over twelve decades, D R D^T in float32
// has lost the small ones.
//
// Cost, the smaller of out and in being n, the larger m: at most n m (n + m / 2) multiplications for D R D^T,
// a Cholesky decomposition of R shared by all linears of a site if out > in, and the eigenvectors
// (top_eigenvectors.cpp). Memory: a few [in, out] matrices in float64.
//
// Differs from the authors' code in the form above, and in that they round the factors of each layer to the
// weights' dtype before they measure.
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "ptq/ops/one_thread.h"
#include "ptq/ops/ops.h"
#include "ptq/solve/low_rank.h"
#include "solve/top_eigenvectors.h"

namespace ptq {
namespace {

constexpr double kSmallestEigenvalue = 1e-12;  // of the largest; smaller ones have arbitrary directions
constexpr int64_t kBlock = 192;                // rows of a triangle that are multiplied at a time

// x y^T, of which only the upper triangle's blocks are computed: the product must be symmetric. x, y [n, m].
Tensor symmetric_product(const Tensor& x, const Tensor& y) {
  const int64_t n = x.size(0);
  const Tensor result = at::empty({n, n}, x.options());
  for (int64_t i = 0; i < n; i += kBlock) {
    const int64_t rows = std::min(kBlock, n - i);
    const Tensor part = x.narrow(0, i, rows).matmul(y.narrow(0, i, n - i).t());
    result.narrow(0, i, rows).narrow(1, i, n - i).copy_(part);
    if (i + rows == n) break;
    const int64_t below = i + rows;
    result.narrow(0, below, n - below).narrow(1, i, rows).copy_(part.narrow(1, rows, n - below).t());
  }
  return result;
}

// D L for L [n, n] whose blocks above the diagonal are taken as 0; those on it count `on_diagonal` times.
Tensor triangular_product(const Tensor& D, const Tensor& L, double on_diagonal = 1) {
  const int64_t n = L.size(0);
  const Tensor result = at::empty_like(D);
  for (int64_t i = 0; i < n; i += kBlock) {
    const int64_t columns = std::min(kBlock, n - i);
    Tensor part = L.narrow(0, i, n - i).narrow(1, i, columns);
    if (on_diagonal != 1) {
      part = part.clone();
      part.narrow(0, 0, columns).mul_(on_diagonal);
    }
    result.narrow(1, i, columns).copy_(D.narrow(1, i, n - i).matmul(part));
  }
  return result;
}

int64_t kept_directions(const Tensor& eigenvalues, int64_t rank) {
  if (eigenvalues.numel() == 0 || !(eigenvalues[0].item<double>() > 0)) return 0;
  const Tensor kept = eigenvalues > kSmallestEigenvalue * eigenvalues[0];
  return std::min(rank, kept.sum().item<int64_t>());
}

// The signs of eigenvectors are arbitrary; files must not be.
Tensor with_fixed_signs(const Tensor& V) {
  if (V.numel() == 0) return V;
  const Tensor largest = V.gather(0, V.abs().argmax(0, /*keepdim=*/true));
  return V * at::where(largest < 0, -1.0, 1.0);
}

LowRankSolution truncated(const Tensor& eigenvalues, const Tensor& V, double energy, int64_t rank) {
  const int64_t kept = std::min(kept_directions(eigenvalues, rank), V.size(1));
  return {with_fixed_signs(V.slice(1, 0, kept)).contiguous(), eigenvalues.slice(0, 0, kept), energy};
}

// out <= in
LowRankSolution solve_over_outputs(const Tensor& D, const InputMetric& metric, int64_t rank) {
  const Tensor G = metric.quadratic_form(D);
  const auto [values, V] = top_eigenvectors(G, rank);
  return truncated(values, V, G.diagonal().sum().item<double>(), rank);
}

// out > in: from the eigenvectors U of F^T F for F = D S^T [out, in], V = F U / s.
LowRankSolution solve_over_inputs(const Tensor& D, const InputMetric& metric, int64_t rank) {
  const Tensor F = metric.root_times(D);
  const Tensor K = symmetric_product(F.t(), F.t());
  const auto [values, U] = top_eigenvectors(K, rank);
  const int64_t kept = kept_directions(values, rank);
  Tensor V = F.matmul(U.slice(1, 0, kept));
  // Small singular values leave columns that are not quite orthogonal.
  if (kept > 0) V = orthonormal(V / values.slice(0, 0, kept).sqrt());
  return truncated(values, V, K.diagonal().sum().item<double>(), rank);
}

// D R D^T is only multiplied with, never formed.
LowRankSolution solve_by_products(const Tensor& D, const InputMetric& metric, const LowRankOptions& options) {
  const auto times = [&](const Tensor& columns) { return D.matmul(metric.times(columns.t().matmul(D)).t()); };
  const int64_t out = D.size(0), rank = std::min({options.rank, out, D.size(1)});
  const auto [values, V] = top_eigenvectors(times, out, rank, D.options(), options.seed);
  return truncated(values, V, (D * metric.times(D)).sum().item<double>(), rank);
}

// What alternation needs of a solution that only leads to the next one, in float32: two products of D R D^T
// with `columns` [out, rank + 8], which are those of the round before, random at first, and the best vectors
// in what they span. `columns` becomes what they span.
LowRankSolution solve_roughly(const Tensor& D, const InputMetric& metric, Tensor& columns,
                              const LowRankOptions& options) {
  constexpr int kProducts = 2;
  constexpr int64_t kMore = 8;
  const int64_t out = D.size(0), rank = std::min({options.rank, out, D.size(1)});
  const Tensor DR = metric.rough_times(D);
  const double energy = (D * DR).sum(1).to(at::kDouble).sum().item<double>();
  if (!columns.defined()) {
    const Tensor random = at::randn({out, std::min(rank + kMore, out)},
                                    at::detail::createCPUGenerator(options.seed), at::kFloat);
    columns = DR.matmul(D.t().matmul(random.to(D.device())));
  }
  for (int i = 0; i < kProducts; ++i) columns = DR.matmul(D.t().matmul(orthonormal(columns)));
  columns = orthonormal(columns);
  const Tensor H = D.t().matmul(columns).t().matmul(DR.t().matmul(columns)).to(at::kDouble);
  const auto [values, U] = top_eigenvectors((H + H.t()) / 2, std::min(rank, H.size(0)));
  return {columns.matmul(U.to(at::kFloat)), values.clamp_min(0), energy};
}

}  // namespace

InputMetric InputMetric::full(const Tensor& R, double shrinkage) {
  const Tensor wide = R.to(at::kDouble);
  if (shrinkage == 0) return InputMetric(wide);
  if (shrinkage == 1) return diagonal(wide.diagonal());
  Tensor shrunk = wide * (1 - shrinkage);
  shrunk.diagonal().copy_(wide.diagonal());
  return InputMetric(shrunk);
}

InputMetric InputMetric::diagonal(const Tensor& d) {
  return InputMetric(d.to(at::kDouble).contiguous());
}

Tensor InputMetric::times(const Tensor& D) const {
  return is_diagonal() ? D * R_ : D.matmul(R_);
}

// R = T + T^T, T being the blocks below its diagonal and half of those on it: D R D^T is P + P^T for
// P = (D T) D^T, and D T costs half of D R.
Tensor InputMetric::quadratic_form(const Tensor& D) const {
  if (is_diagonal()) return symmetric_product(D, D * R_);
  const Tensor P = triangular_product(D, R_, /*on_diagonal=*/0.5).matmul(D.t());
  return P + P.t();
}

Tensor InputMetric::rough_times(const Tensor& D) const {
  if (!single_.defined()) single_ = R_.to(at::kFloat);
  return is_diagonal() ? D * single_ : ops::linear(D, single_);
}

void InputMetric::decompose() const {
  if (is_diagonal() || root_.defined()) return;
  const OneThread one_thread;
  const auto [L, info] = at::linalg_cholesky_ex(R_);
  triangular_ = info.item<int>() == 0 && L.isfinite().all().item<bool>();
  if (triangular_) {
    root_ = L.contiguous();
    return;
  }
  const auto [values, Q] = at::linalg_eigh(R_);
  root_ = Q * values.clamp_min(0).sqrt();
}

Tensor InputMetric::root_times(const Tensor& D) const {
  if (is_diagonal()) return D * R_.clamp_min(0).sqrt();
  decompose();
  return triangular_ ? triangular_product(D, root_) : D.matmul(root_);
}

LowRankSolution solve_low_rank(const Tensor& D, const InputMetric& metric, const LowRankOptions& options) {
  TORCH_CHECK(D.dim() == 2 && metric.size() == D.size(1) && options.rank > 0, "solve_low_rank: D has shape ",
              D.sizes(), ", R ", metric.size(), ", rank ", options.rank);
  const int64_t out = D.size(0), in = D.size(1);
  const Tensor wide = D.to(at::kDouble).contiguous();
  const int64_t rank = std::min({options.rank, out, in});
  if (std::min(out, in) > options.formed_up_to) return solve_by_products(wide, metric, options);
  return out <= in ? solve_over_outputs(wide, metric, rank) : solve_over_inputs(wide, metric, rank);
}

std::pair<Tensor, Tensor> low_rank_factors(const Tensor& V, const Tensor& D) {
  Tensor A = V.t().matmul(D.to(at::kDouble)), B = V;
  const Tensor touched = at::nonzero(A.norm(2, 1) > 0).flatten();
  A = A.index_select(0, touched);
  B = B.index_select(1, touched);
  const Tensor balance = A.norm(2, 1).sqrt();  // the columns of V have norm 1
  return {A / balance.unsqueeze(1), (B * balance).contiguous()};
}

double corrected_energy(double energy, const Tensor& D, const Tensor& A, const Tensor& B, const Tensor& R) {
  const Tensor a = A.to(at::kDouble), b = B.to(at::kDouble), AR = a.matmul(R.to(at::kDouble));
  const double crossed = (b.t().matmul(D.to(at::kDouble)) * AR).sum().item<double>();
  const double own = (AR.matmul(a.t()) * b.t().matmul(b)).sum().item<double>();
  return std::max(0.0, energy - 2 * crossed + own);
}

double output_energy(const Tensor& D, const Tensor& R) {
  const Tensor d = D.to(R.scalar_type());
  return (d * d.matmul(R)).sum(at::kDouble).item<double>();
}

AlternatingSolution alternate(const Tensor& W, const InputMetric& metric, const LowRankOptions& options,
                              int rounds, const std::function<Tensor(const Tensor&, int)>& round) {
  AlternatingSolution best;
  double least = std::numeric_limits<double>::infinity();
  // What is rounded in the end depends on the rounds before, and codes must not depend on the number of
  // threads.
  std::optional<OneThread> one_thread;
  if (rounds > 1) one_thread.emplace();
  const bool exact = rounds == 1 || std::min(W.size(0), W.size(1)) <= options.exact_rounds_up_to;
  Tensor C, columns;
  for (int i = 0; i < rounds; ++i) {
    const Tensor rounded = round(i == 0 ? W : (W.to(at::kDouble) - C).to(at::kFloat), i);
    const Tensor D = W - rounded;
    LowRankSolution solution =
        exact ? solve_low_rank(D, metric, options) : solve_roughly(D, metric, columns, options);
    const double left = solution.energy - solution.eigenvalues.sum().item<double>();
    if (i + 1 < rounds) C = solution.V.matmul(solution.V.t().matmul(D.to(solution.V.scalar_type())));
    if (left < least) {
      least = left;
      best = {rounded, i, std::move(solution)};
    }
  }
  one_thread.reset();
  if (!exact) best.correction = solve_low_rank(W - best.W, metric, options);
  return best;
}

}  // namespace ptq
