// Hadamard matrices by Sylvester and Paley.
//
// A Hadamard matrix H has entries +1 and -1 and H H^T = n I. Sylvester doubles one: [[H, H], [H, -H]]. Paley
// makes one from the quadratic residues of a prime q, with chi(a) = +1 for a non-zero square modulo q, -1 for
// a non-square, 0 for 0, and Q[i][j] = chi(i - j):
//   first construction, q = 3 (mod 4), size q + 1
//       H = I + S, S = [[0, 1...], [-1..., Q]]
//   second construction, q = 1 (mod 4), size 2(q + 1)
//       C = [[0, 1...], [1..., Q]] is symmetric with C C^T = q I, and each entry of C becomes a 2 x 2 block:
//       0 -> [[1, -1], [-1, -1]], +-1 -> +-[[1, 1], [1, -1]]
// 40 by the second construction needs q = 19, which is 3 (mod 4); doubling the 20 of the first gives 40 as
// well, and is 20 (x) Sylvester(2), so a size of 40 * 2^k is found as 20 * 2^(k+1) and m = 40 never arises.
// Likewise the authors' table of 40. 28 is 2 (13 + 1).
#include "ptq/model/hadamard.h"

#include <cmath>
#include <vector>

#include "model/on_device.h"
#include "ptq/base/error.h"
#include "ptq/ops/ops.h"

namespace ptq {
namespace {

// chi(a) modulo the prime q, a in (-q, q).
int quadratic_character(int a, int q) {
  a = ((a % q) + q) % q;
  if (a == 0) return 0;
  for (int b = 1; b < q; ++b) {
    if (b * b % q == a) return 1;
  }
  return -1;
}

// [q + 1, q + 1]: `first` in the top row, `left` in the left column, the quadratic character elsewhere, 0 in
// the corner.
Tensor bordered_residues(int q, float left) {
  Tensor matrix = at::zeros({q + 1, q + 1}, at::kFloat);
  auto entries = matrix.accessor<float, 2>();
  for (int i = 0; i < q; ++i) {
    entries[0][i + 1] = 1;
    entries[i + 1][0] = left;
    for (int j = 0; j < q; ++j) entries[i + 1][j + 1] = static_cast<float>(quadratic_character(i - j, q));
  }
  return matrix;
}

Tensor paley_first(int q) {
  return bordered_residues(q, -1) + at::eye(q + 1);
}

Tensor paley_second(int q) {
  const Tensor C = bordered_residues(q, 1);
  const Tensor diagonal = at::tensor({1.F, -1.F, -1.F, -1.F}).reshape({2, 2});
  const Tensor elsewhere = at::tensor({1.F, 1.F, 1.F, -1.F}).reshape({2, 2});
  return at::kron(at::eye(q + 1), diagonal) + at::kron(C, elsewhere);
}

struct LeftFactor {
  int64_t m;
  const char* construction;
  Tensor (*make)();
};

const LeftFactor kLeftFactors[] = {
    {1, "sylvester", [] { return at::ones({1, 1}); }},
    {12, "paley1(q=11)", [] { return paley_first(11); }},
    {20, "paley1(q=19)", [] { return paley_first(19); }},
    {28, "paley2(q=13)", [] { return paley_second(13); }},
};

bool is_power_of_two(int64_t n) {
  return n > 0 && (n & (n - 1)) == 0;
}

// The left factor of a matrix of size `block`, null if none has a supported form.
const LeftFactor* find_left_factor(int64_t block) {
  for (const LeftFactor& candidate : kLeftFactors) {
    if (block % candidate.m == 0 && is_power_of_two(block / candidate.m)) return &candidate;
  }
  return nullptr;
}

}  // namespace

Tensor Hadamard::apply(const Tensor& x) const {
  return ops::hadamard(x, on_device(left, x.device()), block);
}

Tensor Hadamard::apply_inverse(const Tensor& x) const {
  // (left (x) S)^T = left^T (x) S: Sylvester's matrix is symmetric.
  return ops::hadamard(x, left.t().contiguous().to(x.device()), block);
}

Json Hadamard::to_json() const {
  return {{"size", size}, {"block", block}, {"m", left.size(0)}, {"construction", construction}};
}

Hadamard make_hadamard(int64_t n) {
  // Blocks from the largest divisor of n downwards; the first with a supported form wins.
  for (int64_t copies = 1; copies <= n; ++copies) {
    if (n % copies != 0) continue;
    const int64_t block = n / copies;
    if (const LeftFactor* left = find_left_factor(block)) return {n, block, left->make(), left->construction};
  }
  throw Error("Hadamard rotation", "the size " + std::to_string(n) + " is not positive");
}

Hadamard make_block_hadamard(int64_t n, int64_t block) {
  if (n <= 0 || block <= 0 || n % block != 0) {
    throw usage_error("Hadamard rotation",
                      "blocks of " + std::to_string(block) + " do not divide " + std::to_string(n));
  }
  if (const LeftFactor* left = find_left_factor(block)) return {n, block, left->make(), left->construction};
  throw usage_error("Hadamard rotation",
                    "there is no Hadamard matrix of size " + std::to_string(block) +
                        " of the forms 2^k, 12 2^k, 20 2^k, 28 2^k",
                    "a block of such a size, or a rotation by the greedy search, which takes any");
}

Hadamard hadamard_from_json(const Json& json, const std::string& where) {
  JsonFields fields(json, where);
  const int64_t size = fields.integer("size", 0);
  const int64_t block = fields.integer("block", 0);
  const int64_t m = fields.integer("m", 0);
  const std::string construction = fields.string("construction", "");
  fields.finish(ExitCode::kFailed);
  for (const LeftFactor& candidate : kLeftFactors) {
    if (construction != candidate.construction || m != candidate.m) continue;
    const bool sizes_fit =
        block > 0 && block % m == 0 && is_power_of_two(block / m) && size > 0 && size % block == 0;
    if (sizes_fit) return {size, block, candidate.make(), construction};
  }
  throw Error(where, "the Hadamard matrix " + json.dump() + " is not one this program can make");
}

}  // namespace ptq
