// The base rotation: Helmert's matrix, and random orthogonal matrices to combine it with.
//
// Helmert's matrix is a chain of Givens rotations, each of which folds the next channel into the mean of
// those before it. It spreads channel 0 evenly over all channels as a Hadamard matrix does, but exists for
// every size. The authors ship it as a table of powers of two in float32, which this closed form equals to
// 3e-8.
#include <cmath>

#include "ptq/base/error.h"
#include "ptq/ops/one_thread.h"
#include "ptq/solve/rotation_search.h"

namespace ptq {
Tensor helmert(int64_t n) {
  if (n < 1) throw Error("helmert", "there is no rotation of size " + std::to_string(n));
  Tensor H = at::zeros({n, n}, at::kDouble);
  // Where row or column i of the chain goes: 0 and n - 1 are exchanged.
  const auto place = [n](int64_t i) { return i == 0 ? n - 1 : i == n - 1 ? 0 : i; };
  auto entries = H.accessor<double, 2>();
  for (int64_t i = 0; i + 1 < n; ++i) {
    const auto k = static_cast<double>(i + 1);
    for (int64_t j = 0; j <= i; ++j) entries[place(i)][place(j)] = 1 / std::sqrt(k * (k + 1));
    entries[place(i)][place(i + 1)] = -std::sqrt(k / (k + 1));
  }
  for (int64_t j = 0; j < n; ++j) entries[place(n - 1)][j] = 1 / std::sqrt(static_cast<double>(n));
  return H;
}

Tensor random_orthogonal(int64_t n, uint64_t seed) {
  if (n < 0) throw Error("random_orthogonal", "there is no rotation of size " + std::to_string(n));
  const OneThread guard;
  const Tensor normal = at::randn({n, n}, at::detail::createCPUGenerator(seed), at::kDouble);
  const auto [Q, R] = at::linalg_qr(normal);
  return Q * at::where(R.diagonal() < 0, -1.0, 1.0);
}

Tensor rotation_base(int64_t block, const Tensor& Q) {
  const Tensor H = helmert(block);
  if (Q.dim() != 2 || Q.size(0) != block - 1 || Q.size(1) != block - 1)
    throw Error("rotation_base", "a block of " + std::to_string(block) +
                                     " channels needs an orthogonal matrix of one row and column less");
  Tensor base = H.clone();
  base.slice(1, 1) = at::mm(H.slice(1, 1), Q.to(at::kCPU, at::kDouble));
  return base;
}

}  // namespace ptq
