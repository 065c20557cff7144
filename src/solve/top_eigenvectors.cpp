// Block Lanczos with full orthogonalization.
//
// Idea. The columns Y, G Y, G^2 Y, ... of a few random columns Y hold good approximations of the leading
// eigenvectors long before they span everything, because high powers of G leave little else; the best ones in
// their span come from a small symmetric matrix. A narrow Y that is multiplied often is better than a wide
// one that is multiplied seldom: for 32 of 576 vectors of a layer's error, 8 columns reach the last digit of
// the eigenvalues' sum in a space of 144 to 176 columns, 48 columns are still off by 6e-6 in one of 336.
//
// The span grows until the sum of the wanted eigenvalues stands still. New columns are made orthogonal to all
// before them, twice; where nothing is left of one, because G has few eigenvectors, a random one takes its
// place.
//
// Cost, for a space of d columns: d products of G with a column, 8 n d^2 for the orthogonalization. A full
// decomposition costs 9 n^3, which is less where n is small or many vectors are wanted.
#include "solve/top_eigenvectors.h"

#include <algorithm>
#include <cmath>

#include "ptq/ops/one_thread.h"

namespace ptq {
namespace {

constexpr int64_t kColumns = 8;         // of a block
constexpr int64_t kDenseBelow = 192;    // n up to which the full decomposition is as fast
constexpr int64_t kFirstCheck = 64;     // columns, beside two for each wanted vector, at the first look
constexpr int64_t kBetweenChecks = 16;  // columns
constexpr int64_t kMost = 512;          // columns, beside eight for each wanted vector, of a space
constexpr double kStandsStill = 1e-13;  // of the sum of all eigenvalues seen
constexpr double kVanished = 1e-10;     // of a column's length

Eigenpairs full_decomposition(const Tensor& G, int64_t count) {
  const auto [values, vectors] = at::linalg_eigh(G);
  return {values.flip({0}).slice(0, 0, count), vectors.flip({1}).slice(1, 0, count)};
}

// A growing orthonormal basis [n, d] and G times it.
class Space {
 public:
  Space(const std::function<Tensor(const Tensor&)>& times, int64_t n, int64_t most,
        const at::TensorOptions& options, uint64_t seed)
      : times_(times),
        basis_(at::empty({most, n}, options)),
        image_(at::empty({most, n}, options)),
        generator_(at::detail::createCPUGenerator(seed)) {}

  int64_t size() const { return size_; }

  // Columns [n, m] join, as far as they are not in the space; those that are become random ones.
  void add(Tensor columns) {
    for (int clean = 0; clean < 2; ++clean) {
      const Tensor before = columns.norm(2, 0);
      if (size_ > 0) {
        const Tensor basis = basis_.slice(0, 0, size_);
        columns = columns - basis.t().matmul(basis.matmul(columns));
      }
      const Tensor vanished = columns.norm(2, 0) <= kVanished * before;
      if (vanished.any().item<bool>()) {
        columns = at::where(vanished, random(columns.size(1)), columns);
        clean = -1;
      }
      columns = orthonormal(columns);
    }
    const int64_t end = size_ + columns.size(1);
    basis_.slice(0, size_, end).copy_(columns.t());
    image_.slice(0, size_, end).copy_(times_(columns).t());
    last_ = size_;
    size_ = end;
  }

  // [n, m]
  Tensor random(int64_t m) {
    const auto options = at::TensorOptions().dtype(at::kDouble);
    return at::randn({basis_.size(1), m}, generator_, options).to(basis_.options());
  }

  // G times the columns that joined last.
  Tensor next() const { return image_.slice(0, last_, size_).t(); }

  // G restricted to the space, in its basis. [size, size]
  Tensor restricted() const {
    const Tensor H = basis_.slice(0, 0, size_).matmul(image_.slice(0, 0, size_).t());
    return (H + H.t()) / 2;
  }

  Tensor combine(const Tensor& coefficients) const {
    return basis_.slice(0, 0, size_).t().matmul(coefficients);
  }

 private:
  const std::function<Tensor(const Tensor&)>& times_;
  Tensor basis_, image_;  // [most, n]: a column of the space is a row here
  at::Generator generator_;
  int64_t size_ = 0, last_ = 0;
};

}  // namespace

Tensor orthonormal(const Tensor& columns) {
  const OneThread one_thread;
  return std::get<0>(at::linalg_qr(columns));
}

Eigenpairs top_eigenvectors(const std::function<Tensor(const Tensor&)>& times, int64_t n, int64_t count,
                            const at::TensorOptions& options, uint64_t seed) {
  const OneThread one_thread;
  const int64_t width = std::min(kColumns, n), most = std::min(n, 8 * count + kMost);
  Space space(times, n, most, options, seed);
  space.add(space.random(width));
  int64_t check = 2 * count + kFirstCheck;
  double before = -1;
  while (true) {
    if (space.size() >= std::min(check, most)) {
      const Tensor H = space.restricted();
      const double sum = at::linalg_eigvalsh(H).slice(0, -std::min(count, space.size())).sum().item<double>();
      if (space.size() == most || std::abs(sum - before) <= kStandsStill * sum) {
        const Eigenpairs found = full_decomposition(H, std::min(count, space.size()));
        return {found.values, space.combine(found.vectors)};
      }
      before = sum;
      check = space.size() + kBetweenChecks;
    }
    const Tensor next = space.next();
    space.add(next.slice(1, 0, std::min(next.size(1), most - space.size())));
  }
}

Eigenpairs top_eigenvectors(const Tensor& G, int64_t count) {
  const OneThread one_thread;
  const int64_t n = G.size(0);
  // Lanczos ends with a space of a few times `count` columns, and then costs less.
  if (n <= kDenseBelow || 8 * count > n) return full_decomposition(G, count);
  return top_eigenvectors([&](const Tensor& columns) { return G.matmul(columns); }, n, count, G.options(),
                          /*seed=*/0);
}

}  // namespace ptq
