// The rotation search against a plain one in float64, and what its parts promise.
#include "ptq/solve/rotation_search.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "../base/expect_error.h"
#include "solve/row_scan.h"

namespace ptq {
namespace {

using Peak = GreedyOptions::Peak;

Tensor normal(int64_t rows, int64_t columns, uint64_t seed) {
  return at::randn({rows, columns}, at::detail::createCPUGenerator(seed), at::kFloat);
}

// A few large channels, one huge token, tokens of different sizes.
Tensor with_outliers(int64_t rows, int64_t columns, uint64_t seed) {
  Tensor x = normal(rows, columns, seed) * normal(rows, 1, seed + 100).exp();
  x.select(1, columns / 3).mul_(20);
  x[rows / 2].mul_(50);
  return x;
}

// Values on a coarse grid: many rows and entries are equal, or equal but for the sign.
Tensor coarse(int64_t rows, int64_t columns, uint64_t seed) {
  return normal(rows, columns, seed).mul(1.5F).round().clamp(-2, 2);
}

Tensor base_of(int64_t block, uint64_t seed = 1) {
  return rotation_base(block, random_orthogonal(block - 1, seed));
}

double orthogonality_error(const Tensor& R) {
  return (at::mm(R, R.t()) - at::eye(R.size(0), at::kDouble)).abs().max().item<double>();
}

// Every entry of x R, sums in ascending order of channels. [rows, block] flat
std::vector<double> plain_product(const Tensor& x, const Tensor& R) {
  const int64_t B = R.size(0);
  const float* values = x.const_data_ptr<float>();
  const double* r = R.const_data_ptr<double>();
  std::vector<double> product(static_cast<size_t>(x.numel()), 0);
  double* y = product.data();
  for (int64_t row = 0; row < x.numel(); row += B) {
    for (int64_t k = 0; k < B; ++k) {
      const auto value = static_cast<double>(values[row + k]);
      for (int64_t j = 0; j < B; ++j) y[row + j] += value * r[k * B + j];
    }
  }
  return product;
}

struct PlainSearch {
  Tensor R;
  std::vector<double> peaks;   // before each step, and after the last
  std::vector<int64_t> swaps;  // of all steps
  int64_t selected = 0;
};

// The search as the specification words it.
PlainSearch plain_search(const Tensor& x, int64_t block, const Tensor& base, const GreedyOptions& options) {
  PlainSearch search;
  Tensor R = at::eye(block, at::kDouble);
  for (int64_t k = 0;; ++k) {
    const std::vector<double> y = plain_product(x, R.contiguous());
    const auto smallest = std::min_element(y.begin(), y.end());
    const auto largest = std::max_element(y.begin(), y.end());
    search.peaks.push_back(options.peak == Peak::kRange ? *largest - *smallest
                                                        : std::max(*largest, -*smallest));
    const double best = search.peaks[static_cast<size_t>(search.selected)];
    if (k == 0 || search.peaks.back() < best * (1 - 1e-12)) {
      search.selected = k;
      search.R = R;
    }
    if (k == options.steps) return search;
    const auto extreme = -*smallest >= *largest ? smallest : largest;
    search.swaps.push_back((extreme - y.begin()) % block);
    Tensor exchange = at::eye(block, at::kDouble);
    const int64_t d = search.swaps.back();
    if (d != 0) {
      exchange[0][0] = exchange[d][d] = 0;
      exchange[0][d] = exchange[d][0] = 1;
    }
    R = at::mm(R, at::mm(exchange, at::mm(base, exchange)));
  }
}

struct Shape {
  int64_t rows, channels, block;
};
constexpr Shape kShapes[] = {{1, 2, 2},     {7, 24, 8},    {40, 36, 12},  {5, 21, 7},
                             {150, 96, 32}, {64, 128, 64}, {30, 130, 130}};

void expect_plain(const Tensor& x, int64_t block, const GreedyOptions& options) {
  const Tensor base = base_of(block);
  const PlainSearch plain = plain_search(x, block, base, options);
  const GreedyRotation found = greedy_rotation(x, block, base, options);
  EXPECT_EQ(found.steps, plain.selected);
  EXPECT_EQ(found.swaps, std::vector<int64_t>(plain.swaps.begin(), plain.swaps.begin() + plain.selected));
  EXPECT_NEAR(found.peak_before, plain.peaks[0], 1e-12 * plain.peaks[0]);
  EXPECT_NEAR(found.peak_after, plain.peaks[static_cast<size_t>(plain.selected)], 1e-12 * plain.peaks[0]);
  EXPECT_LT((found.R - plain.R).abs().max().item<double>(), 1e-12);
}

TEST(GreedyRotation, EqualsThePlainSearch) {
  for (const Shape& shape : kShapes) {
    for (const Peak peak : {Peak::kMagnitude, Peak::kRange}) {
      for (const uint64_t seed : {1, 2, 3}) {
        SCOPED_TRACE(testing::Message()
                     << shape.rows << " x " << shape.channels << ", block " << shape.block);
        expect_plain(normal(shape.rows, shape.channels, seed), shape.block, {12, peak});
        expect_plain(with_outliers(shape.rows, shape.channels, seed), shape.block, {12, peak});
      }
    }
  }
}

TEST(GreedyRotation, EqualsThePlainSearchWhenFewRowsAreWithinReach) {
  // More rows than are examined before the others are pruned, and a range whose ends lie in different rows.
  for (const Peak peak : {Peak::kMagnitude, Peak::kRange}) {
    expect_plain(with_outliers(700, 64, 5), 16, {20, peak});
    expect_plain(normal(700, 64, 6).abs(), 16, {20, peak});
    expect_plain(-normal(700, 64, 6).abs(), 16, {20, peak});
  }
}

TEST(GreedyRotation, TiesGoToTheMinimumThenToTheFirst) {
  const auto first_swap = [](std::vector<std::pair<int64_t, float>> entries) {
    Tensor x = 0.01 * normal(300, 8, 3);
    for (const auto& [index, value] : entries) x.view(-1)[index] = value;
    const GreedyRotation found = greedy_rotation(x, 4, base_of(4), {1});
    EXPECT_EQ(found.steps, 1);
    return found.swaps.at(0);
  };
  EXPECT_EQ(first_swap({{17, 5}, {42, 5}}), 1);
  EXPECT_EQ(first_swap({{17, -5}, {42, -5}}), 1);
  EXPECT_EQ(first_swap({{17, 5}, {42, -5}}), 2);
  EXPECT_EQ(first_swap({{17, 5}, {42, -5}, {1600, -5}}), 2);
  // The first in the order of x, though a later row has the larger norm.
  EXPECT_EQ(first_swap({{17, 5}, {42, 5}, {41, 1}}), 1);
}

TEST(GreedyRotation, EqualRowsAndEntriesAreLikeAnyOthers) {
  // Products of equal rows are equal bit by bit, in any order of rows; the first of them decides.
  for (const Peak peak : {Peak::kMagnitude, Peak::kRange}) {
    expect_plain(coarse(200, 8, 1), 4, {0, peak});
    expect_plain(coarse(200, 8, 2), 4, {1, peak});
    expect_plain(normal(1, 8, 2).repeat({300, 1}), 8, {10, peak});
  }
}

TEST(GreedyRotation, NoStepIsKeptWhereNoneHelps) {
  const Tensor x = at::ones({10, 8});  // as small as rows of that norm can be
  const GreedyRotation flat = greedy_rotation(x, 8, base_of(8), {20});
  EXPECT_EQ(flat.steps, 0);
  EXPECT_TRUE(flat.swaps.empty());
  EXPECT_TRUE(at::equal(flat.R, at::eye(8, at::kDouble)));
  EXPECT_EQ(flat.peak_after, 1);
  const GreedyRotation none = greedy_rotation(with_outliers(10, 8, 1), 8, base_of(8), {0});
  EXPECT_EQ(none.steps, 0);
  EXPECT_EQ(none.peak_before, none.peak_after);
  const GreedyRotation zero = greedy_rotation(at::zeros({500, 8}), 8, base_of(8), {20});
  EXPECT_EQ(zero.steps, 0);
  EXPECT_EQ(zero.peak_after, 0);
  EXPECT_EQ(greedy_rotation(normal(10, 3, 1), 1, base_of(1), {5}).steps, 0);
}

TEST(GreedyRotation, IsOrthogonalAfterManyStepsAndHasThePeakItSays) {
  const Tensor x = with_outliers(500, 64, 9);
  const GreedyRotation found = greedy_rotation(x, 32, base_of(32), {256});
  EXPECT_GT(found.steps, 0);
  EXPECT_LT(found.peak_after, found.peak_before / 2);
  EXPECT_LT(orthogonality_error(found.R), 1e-12);
  const Tensor y = at::mm(x.view({-1, 32}).to(at::kDouble), found.R);
  EXPECT_NEAR(y.abs().max().item<double>(), found.peak_after, 1e-12 * found.peak_after);
}

TEST(GreedyRotation, HasTheSameBitsForAnyNumberOfThreads) {
  const int before = at::get_num_threads();
  const Tensor x = normal(2048, 96, 4);
  std::vector<GreedyRotation> found;
  for (const int threads : {1, 2, 2}) {
    at::set_num_threads(threads);
    found.push_back(greedy_rotation(x, 32, base_of(32), {30}));
  }
  at::set_num_threads(before);
  for (const GreedyRotation& other : found) {
    EXPECT_EQ(other.swaps, found[0].swaps);
    EXPECT_EQ(other.peak_after, found[0].peak_after);
    EXPECT_TRUE(at::equal(other.R, found[0].R));
  }
}

TEST(GreedyRotation, SizesOfAnyOrder) {
  for (const double size : {1e-25, 1e-12, 1e12}) expect_plain(with_outliers(50, 32, 2) * size, 16, {6});
}

TEST(GreedyRotation, WrongArgumentsAreErrors) {
  const Tensor x = normal(4, 10, 1);
  EXPECT_ERROR(greedy_rotation(x, 4, base_of(4)), ExitCode::kFailed, "do not divide 10");
  EXPECT_ERROR(greedy_rotation(x, 0, base_of(4)), ExitCode::kFailed, "do not divide");
  EXPECT_ERROR(greedy_rotation(x, 5, base_of(4)), ExitCode::kFailed, "square of 5");
  EXPECT_ERROR(greedy_rotation(x, 5, at::ones({5, 5})), ExitCode::kFailed, "not orthogonal");
  EXPECT_ERROR(greedy_rotation(x, 5, base_of(5) / 0.0), ExitCode::kFailed, "not orthogonal");
  EXPECT_ERROR(greedy_rotation(x, 5, base_of(5), {-1}), ExitCode::kFailed, "-1 steps");
  EXPECT_ERROR(greedy_rotation(at::empty({0, 10}), 5, base_of(5)), ExitCode::kFailed, "no activations");
  for (const float bad : {INFINITY, NAN}) {
    Tensor y = x.clone();
    y[2][3] = bad;
    EXPECT_ERROR(greedy_rotation(y, 5, base_of(5)), ExitCode::kFailed, "not finite");
  }
}

// Bounds hold for every row, are within `tightness` of its norm, and what is said to be reached is.
void expect_bounds(ScanKind kind, const Tensor& x, const Tensor& R, float tightness) {
  const int64_t rows = x.size(0);
  std::vector<int64_t> order(static_cast<size_t>(rows));
  std::iota(order.rbegin(), order.rend(), 0);
  const Tensor norms = x.norm(2, {1}).flip(0).mul(kMargin).add(kTiniest).contiguous();
  const float* norm = norms.const_data_ptr<float>();
  const auto scan = make_row_scan(kind, x, order, std::vector<float>(norm, norm + rows));
  scan->rotate_by(R);
  std::vector<float> high(order.size()), low(order.size());
  for (const int64_t begin : {int64_t{0}, RowScan::kAlign}) {
    if (begin >= rows) continue;
    const Reached reached = scan->scan(begin, rows, high.data(), low.data());
    const Tensor y = at::mm(x.to(at::kDouble), R).flip(0).slice(0, begin);
    EXPECT_LE(reached.highest, y.max().item<double>());
    EXPECT_LE(reached.lowest, -y.min().item<double>());
    for (int64_t i = 0; i < rows - begin; ++i) {
      const auto most = static_cast<float>(y[i].max().item<double>());
      const auto least = static_cast<float>(-y[i].min().item<double>());
      const float slack = tightness * norm[begin + i] + 1e-15F;
      ASSERT_LE(most, high[static_cast<size_t>(i)]);
      ASSERT_LE(least, low[static_cast<size_t>(i)]);
      ASSERT_LE(high[static_cast<size_t>(i)], most + slack);
      ASSERT_LE(low[static_cast<size_t>(i)], least + slack);
      ASSERT_LE(most, scan->bound(begin + i));
    }
  }
}

TEST(RowScan, BoundsHoldAndAreTight) {
  for (const ScanKind kind : {ScanKind::kFloat, ScanKind::kCodes}) {
    const float tightness = kind == ScanKind::kFloat ? 1e-4F : 0.1F;
    for (const int64_t block : {1, 2, 5, 6, 16, 30, 64, 129}) {
      for (const int64_t rows : {1, 64, 65, 200}) {
        const Tensor R = random_orthogonal(block, 3);
        expect_bounds(kind, normal(rows, block, 2), R, tightness);
        expect_bounds(kind, with_outliers(rows, block, 2), R, tightness);
        expect_bounds(kind, normal(rows, block, 2).abs(), R.abs(), tightness * 10);
        expect_bounds(kind, normal(rows, block, 2) * 1e-25, R, tightness);
        expect_bounds(kind, at::zeros({rows, block}), at::eye(block, at::kDouble), tightness);
      }
    }
  }
}

TEST(Helmert, SmallOnesByHand) {
  EXPECT_TRUE(at::equal(helmert(1), at::ones({1, 1}, at::kDouble)));
  const double h = std::sqrt(0.5);
  EXPECT_TRUE(at::allclose(helmert(2), at::tensor({h, h, -h, h}, at::kDouble).view({2, 2}), 0, 1e-15));
  const double third = std::sqrt(1.0 / 3);
  const double sixth = std::sqrt(1.0 / 6);
  const Tensor three =
      at::tensor({third, third, third, -2 * sixth, sixth, sixth, 0.0, -h, h}, at::kDouble).view({3, 3});
  EXPECT_TRUE(at::allclose(helmert(3), three, 0, 1e-15));
  EXPECT_ERROR(helmert(0), ExitCode::kFailed, "size 0");
}

TEST(Helmert, IsOrthogonalWithAUniformFirstRow) {
  for (const int64_t n : {1, 2, 3, 12, 64, 100, 128, 576}) {
    const Tensor H = helmert(n);
    EXPECT_LT(orthogonality_error(H), 1e-13) << n;
    const double entry = 1 / std::sqrt(static_cast<double>(n));
    EXPECT_LT((H[0] - entry).abs().max().item<double>(), 1e-15) << n;
  }
}

TEST(RandomOrthogonal, IsOrthogonalAndFollowsTheSeed) {
  for (const int64_t n : {0, 1, 2, 63, 127}) {
    const Tensor Q = random_orthogonal(n, 5);
    ASSERT_EQ(Q.sizes(), at::IntArrayRef({n, n}));
    EXPECT_EQ(Q.scalar_type(), at::kDouble);
    if (n == 0) continue;
    EXPECT_LT(orthogonality_error(Q), 1e-13);
    EXPECT_TRUE(at::equal(Q, random_orthogonal(n, 5)));
    EXPECT_EQ(at::equal(Q, random_orthogonal(n, 6)), n == 1);
  }
  // The triangular factor of what was drawn has a positive diagonal.
  for (uint64_t seed = 0; seed < 8; ++seed) {
    const Tensor drawn = at::randn({5, 5}, at::detail::createCPUGenerator(seed), at::kDouble);
    const Tensor R = at::mm(random_orthogonal(5, seed).t(), drawn);
    EXPECT_GT(R.diagonal().min().item<double>(), 0);
    EXPECT_LT(R.tril(-1).abs().max().item<double>(), 1e-13);
  }
}

TEST(RandomOrthogonal, HasTheSameBitsForAnyNumberOfThreadsAndLeavesTheirNumber) {
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const Tensor one = random_orthogonal(300, 5);
  at::set_num_threads(2);
  EXPECT_TRUE(at::equal(random_orthogonal(300, 5), one));
  EXPECT_EQ(at::get_num_threads(), 2);
  at::set_num_threads(before);
}

TEST(RotationBase, IsHelmertTimesQ) {
  const Tensor Q = random_orthogonal(7, 2);
  Tensor diagonal = at::eye(8, at::kDouble);
  diagonal.slice(0, 1).slice(1, 1).copy_(Q);
  EXPECT_TRUE(at::allclose(rotation_base(8, Q), at::mm(helmert(8), diagonal), 0, 1e-15));
  EXPECT_ERROR(rotation_base(8, random_orthogonal(8, 2)), ExitCode::kFailed, "block of 8");
}

std::vector<int64_t> zigzag_of(const std::vector<float>& maxima, int64_t block) {
  const Tensor index = zigzag(at::tensor(maxima, at::kFloat), block);
  EXPECT_EQ(index.scalar_type(), at::kLong);
  return {index.const_data_ptr<int64_t>(), index.const_data_ptr<int64_t>() + index.numel()};
}

TEST(Zigzag, DealsBackAndForth) {
  using Index = std::vector<int64_t>;
  EXPECT_EQ(zigzag_of({9, 2, 8, 1}, 2), (Index{0, 3, 2, 1}));
  EXPECT_EQ(zigzag_of({1, 2, 3, 4, 5, 6}, 3), (Index{5, 2, 1, 4, 3, 0}));
  EXPECT_EQ(zigzag_of({1, 1, 1, 1, 1, 1}, 2), (Index{0, 5, 1, 4, 2, 3}));  // stable
  EXPECT_EQ(zigzag_of({1, 3, 2}, 3), (Index{1, 2, 0}));                    // one block
  EXPECT_EQ(zigzag_of({1, 3, 2}, 1), (Index{1, 2, 0}));                    // one round
  EXPECT_ERROR(zigzag(at::ones({10}), 4), ExitCode::kFailed, "do not divide 10");
  EXPECT_ERROR(zigzag(at::ones({10}), 0), ExitCode::kFailed, "do not divide 10");
  EXPECT_ERROR(zigzag(at::ones({2, 4}), 4), ExitCode::kFailed, "one maximum a channel");
}

TEST(Zigzag, IsAPermutationWithBlocksOfNearlyTheSameMean) {
  const Tensor maxima = normal(1, 576, 3).abs().exp().flatten();
  const Tensor index = zigzag(maxima, 64);
  EXPECT_TRUE(at::equal(std::get<0>(at::sort(index)), at::arange(576)));
  const Tensor means = maxima.index_select(0, index).view({9, 64}).mean(1);
  const double bound = (maxima.max() - maxima.min()).item<double>() / 64;
  EXPECT_LE((means.max() - means.min()).item<double>(), bound);
}

}  // namespace
}  // namespace ptq
