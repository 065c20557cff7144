// QERA (arXiv 2410.06040): the low-rank term that rebuilds most of what rounding took from a layer's output.
//
// Throughout, D = W - W~ [out, in] is the error of a rounded weight and R = E[x^T x] [in, in] the second
// moment of what the layer reads, so that the mean squared error of the output is trace(D R D^T).
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <utility>

namespace ptq {

using at::Tensor;

// A symmetric positive semidefinite R, full [in, in] or a diagonal [in]; float64. Keeps what is made of it
// once, so it is not for several threads at a time.
class InputMetric {
 public:
  // The second moment, shrunk towards its diagonal: (1 - shrinkage) R + shrinkage diag(R). With shrinkage 1
  // it is the diagonal.
  static InputMetric full(const Tensor& R, double shrinkage = 0);
  static InputMetric diagonal(const Tensor& d);

  bool is_diagonal() const { return R_.dim() == 1; }
  int64_t size() const { return R_.size(0); }
  // D R for D [n, in].
  Tensor times(const Tensor& D) const;
  // D R D^T [n, n].
  Tensor quadratic_form(const Tensor& D) const;
  // D R in float32, for D of it.
  Tensor rough_times(const Tensor& D) const;
  // D S^T for some S [in, in] with S^T S = R: from a Cholesky decomposition, or from the eigenvectors of R if
  // that is singular. The first call decomposes.
  Tensor root_times(const Tensor& D) const;

 private:
  void decompose() const;
  explicit InputMetric(Tensor R) : R_(std::move(R)) {}

  Tensor R_;
  mutable Tensor single_;            // R in float32
  mutable Tensor root_;              // S^T [in, in]
  mutable bool triangular_ = false;  // zeros above its diagonal
};

struct LowRankOptions {
  int64_t rank = 32;
  int64_t formed_up_to = 2048;  // the smaller of the weight's two sizes up to which D R D^T is formed
  uint64_t seed = 0;            // of the columns that the products begin with where it is not
  // Of alternate(): the smaller of the two sizes up to which every round is solved exactly.
  int64_t exact_rounds_up_to = 192;
};

// The best correction of a rank: C = V V^T D.
struct LowRankSolution {
  Tensor V;  // [out, k] float64, orthonormal columns, k <= rank; the largest entry of each is positive
  Tensor eigenvalues;  // [k] of D R D^T, descending: what each column takes off the energy
  double energy = 0;   // trace(D R D^T), without a correction
};

// The top eigenvectors V of D R D^T: no other matrix of that rank leaves less of trace((D - C) R (D - C)^T),
// and what is left is `energy` less the eigenvalues. Directions whose eigenvalue is below 1e-12 of the
// largest are dropped, so k may be 0.
// Up to `formed_up_to` D R D^T [out, out] is formed in float64 if out <= in, else the smaller (S D^T)(S
// D^T)^T [in, in]; above, it is only multiplied with. Both leave what the optimum leaves, to 1e-12 of the
// energy. For a given number of threads, the same bits always.
LowRankSolution solve_low_rank(const Tensor& D, const InputMetric& metric, const LowRankOptions& options);

// A [k, in] and B [out, k], float64, with B A = V V^T D, row i of A and column i of B of equal norms. Columns
// of V that D does not touch are left out.
std::pair<Tensor, Tensor> low_rank_factors(const Tensor& V, const Tensor& D);

// trace((D - B A) R (D - B A)^T), given trace(D R D^T) = `energy`: a few thin products, in float64.
double corrected_energy(double energy, const Tensor& D, const Tensor& A, const Tensor& B, const Tensor& R);

// trace(D R D^T), one product with R in its dtype, summed in float64. R [in, in].
double output_energy(const Tensor& D, const Tensor& R);

// A rounded weight and its correction, found in turns.
struct AlternatingSolution {
  Tensor W;                    // [out, in] what the rounding made: the values of the best round
  int round = 0;               // which was best, from 0
  LowRankSolution correction;  // for W
};

// W~ <- round(W - B A), B A <- solve(W - W~), `rounds` times beginning with B A = 0; keeps the round that
// leaves least. `round` returns the rounded values, float32, and is told the round. Above
// `exact_rounds_up_to` the rounds are solved in float32 by a few products, a quarter of the time, and the one
// that is kept exactly.
AlternatingSolution alternate(const Tensor& W, const InputMetric& metric, const LowRankOptions& options,
                              int rounds,
                              const std::function<Tensor(const Tensor& target, int round)>& round);

}  // namespace ptq
