// The greedy rotation.
//
// Idea. Outliers set the scale of everything that is rounded with them. The matrix `base` spreads channel 0
// over the whole block: evenly if it is Helmert's, nearly so with a random rotation behind it. So find the
// largest entry, bring its channel to place 0, multiply, and look again. Each step lowers the entry that is
// largest at the moment, but mixes the others too and may raise one of them; hence many steps, of which those
// up to the smallest peak are kept.
//
// Example. Two channels, base = Helmert(2) = [1 1; -1 1] / sqrt(2), one row x = (0, 8). The peak is 8, in
// channel 1; exchanged, base is [1 -1; 1 1] / sqrt(2), and x becomes (5.7, 5.7). Another step gives (0, 8)
// again: one step is kept.
//
// Cost. Written down plainly, a step multiplies all rows by a B x B matrix: 2 T C B operations. But all that
// a step asks of x R is its largest entry, and rotations leave norms as they are.
//
// First, rows are sorted by norm. A few hundred of them give a value that the peak is not below, and a row
// of smaller norm cannot hold it: with massive tokens, hundreds of rows out of ten thousands are left.
//
// Second, where all rows have about the same norm, twice the peak, they are multiplied roughly, with a bound
// on the error: in 8-bit codes if the processor has instructions for that (row_scan.h). Rows that cannot
// reach what some row surely reaches are dropped. A handful is left.
//
// Third, those are multiplied exactly, from x itself and the product of all steps, in float64. So no rows are
// carried from step to step, none has to be brought back when the peak rises again, errors do not add up, and
// no result depends on which rows were dropped.
//
// 16 and 256 steps for both rotations of all 120 sites of SmolLM2-135M take 3 and 20 s on one slow core where
// activations have heavy tails, 5 and 58 s where they are normal; the plain loop takes 8 to 60 times as long
// with 256 steps, 6 to 17 times with 16 (tools/bench_rotation.cpp).
//
// Memory. A quarter of x (codes) or as much as x (float32), and a few floats a row.
//
// Reference: DuQuant (arXiv 2406.01721), section 3.2 and algorithm 1. The authors' code differs in four ways.
// It carries all rows in float32. It takes the index of the row, modulo B, where the paper has the channel;
// nearly any channel does as well, but the paper's rule is the one that can be explained. It rounds the
// product to float16, which leaves it 4e-3 from orthogonal. And its peak is the maximum less the minimum;
// here both measures can be chosen.
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "ptq/base/error.h"
#include "ptq/solve/rotation_search.h"
#include "solve/row_scan.h"

namespace ptq {
namespace {

struct Extreme {
  double value = -std::numeric_limits<double>::infinity();
  int64_t index = 0;  // in x, flat

  void offer(double other, int64_t other_index) {
    if (other > value || (other == value && other_index < index)) *this = {other, other_index};
  }
};

// The extremes of x R. When only the magnitude is asked for, the lesser of the two may be off.
struct Peak {
  Extreme highest;
  Extreme lowest;  // of -x R

  int64_t largest_entry() const { return lowest.value >= highest.value ? lowest.index : highest.index; }
  double size(GreedyOptions::Peak kind) const {
    return kind == GreedyOptions::Peak::kRange ? highest.value + lowest.value
                                               : std::max(highest.value, lowest.value);
  }
};

class PeakFinder {
 public:
  // x [rows, B] float32, contiguous
  PeakFinder(const Tensor& x, GreedyOptions::Peak kind, ScanKind scan_kind);
  Peak find(const Tensor& R);

 private:
  // Bounds of the rows at places begin to end, in parallel.
  Reached scan(int64_t begin, int64_t end);
  // Brings `peak` up to date with the rows at places begin to end.
  void examine(int64_t begin, int64_t end, Peak& peak);
  void examine_exactly(int64_t place, Peak& peak);
  // What an entry, or its negative, must reach to matter.
  void set_thresholds(double highest, double lowest);
  // How far the row's entries may lie above the thresholds; negative: it does not matter.
  float chance_of(int64_t place) const {
    const auto i = static_cast<size_t>(place);
    return std::max(high_[i] - threshold_high_, low_[i] - threshold_low_);
  }
  // How many rows, from the first, have norms that reach a threshold.
  int64_t rows_within_reach() const;

  Tensor x_;
  GreedyOptions::Peak kind_;
  std::vector<int64_t> order_;  // rows of x by descending norm
  std::unique_ptr<RowScan> scan_;
  Tensor R_;
  std::vector<float> high_, low_;                      // of the places examined
  std::vector<std::pair<float, int64_t>> candidates_;  // chance, place
  std::vector<double> product_;                        // one row of x R
  float threshold_high_ = 0;
  float threshold_low_ = 0;
};

constexpr int64_t kFirstRows = 256;  // examined before the others are pruned by norm
constexpr int64_t kRowsPerTask = 1024;
// Peaks are equal if they differ by no more than sums in float64 may, relative.
constexpr double kRounding = 1e-12;

PeakFinder::PeakFinder(const Tensor& x, GreedyOptions::Peak kind, ScanKind scan_kind)
    : x_(x), kind_(kind), product_(static_cast<size_t>(x.size(1))) {
  const Tensor norms = at::linalg_vector_norm(x, 2, {1});
  const Tensor order = std::get<1>(at::sort(norms, /*stable=*/true, /*dim=*/0, /*descending=*/true));
  const Tensor sorted = (norms.index_select(0, order) * kMargin).add_(kTiniest);
  if (!std::isfinite(sorted[0].item<float>()) || !at::isfinite(sorted).all().item<bool>())
    throw Error("greedy_rotation", "the activations hold values that are not finite");
  const auto rows = static_cast<size_t>(x.size(0));
  order_.assign(order.const_data_ptr<int64_t>(), order.const_data_ptr<int64_t>() + rows);
  const auto* norm = sorted.const_data_ptr<float>();
  scan_ = make_row_scan(scan_kind, x, order_, std::vector<float>(norm, norm + rows));
  high_.resize(rows);
  low_.resize(rows);
}

Peak PeakFinder::find(const Tensor& R) {
  R_ = R.contiguous();
  scan_->rotate_by(R_);
  Peak peak;
  int64_t begin = 0;
  int64_t end = std::min(kFirstRows, scan_->rows());
  while (begin < end) {
    examine(begin, end, peak);
    begin = end;
    end = rows_within_reach();
  }
  return peak;
}

void PeakFinder::set_thresholds(double highest, double lowest) {
  if (kind_ == GreedyOptions::Peak::kMagnitude) highest = lowest = std::max(highest, lowest);
  // Rounded down: a row that reaches it exactly counts.
  constexpr float kNone = -std::numeric_limits<float>::infinity();
  threshold_high_ = std::nextafter(static_cast<float>(highest), kNone);
  threshold_low_ = std::nextafter(static_cast<float>(lowest), kNone);
}

int64_t PeakFinder::rows_within_reach() const {
  const float least = std::min(threshold_high_, threshold_low_);
  int64_t first = 0;
  int64_t last = scan_->rows();
  while (first < last) {
    const int64_t middle = (first + last) / 2;
    if (scan_->bound(middle) >= least)
      first = middle + 1;
    else
      last = middle;
  }
  return first;
}

Reached PeakFinder::scan(int64_t begin, int64_t end) {
  // Tasks begin at multiples of RowScan::kAlign, as `begin` does unless it is the end of all rows.
  const int64_t tasks = (end - begin + kRowsPerTask - 1) / kRowsPerTask;
  std::vector<Reached> reached(static_cast<size_t>(tasks));
  at::parallel_for(0, tasks, 1, [&](int64_t first, int64_t last) {
    for (int64_t task = first; task < last; ++task) {
      const int64_t from = begin + task * kRowsPerTask;
      reached[static_cast<size_t>(task)] =
          scan_->scan(from, std::min(from + kRowsPerTask, end), high_.data() + from, low_.data() + from);
    }
  });
  Reached all;
  for (const Reached& some : reached)
    all = {std::max(all.highest, some.highest), std::max(all.lowest, some.lowest)};
  return all;
}

void PeakFinder::examine(int64_t begin, int64_t end, Peak& peak) {
  const Reached reached = scan(begin, end);
  const auto update_thresholds = [&] {
    set_thresholds(std::max(peak.highest.value, static_cast<double>(reached.highest)),
                   std::max(peak.lowest.value, static_cast<double>(reached.lowest)));
  };
  update_thresholds();
  candidates_.clear();
  for (int64_t place = begin; place < end; ++place) {
    const float chance = chance_of(place);
    if (chance >= 0) candidates_.emplace_back(chance, place);
  }
  std::sort(candidates_.begin(), candidates_.end(), std::greater<>());
  for (const auto& [chance, place] : candidates_) {
    if (chance_of(place) < 0) continue;  // the thresholds have risen
    examine_exactly(place, peak);
    update_thresholds();
  }
}

void PeakFinder::examine_exactly(int64_t place, Peak& peak) {
  const int64_t B = x_.size(1);
  const int64_t first = order_[static_cast<size_t>(place)] * B;
  const float* x = x_.const_data_ptr<float>() + first;
  const double* r = R_.const_data_ptr<double>();
  std::fill(product_.begin(), product_.end(), 0);
  double* y = product_.data();
  for (int64_t k = 0; k < B; ++k) {
    const auto value = static_cast<double>(x[k]);
    for (int64_t j = 0; j < B; ++j) y[j] += value * r[k * B + j];
  }
  for (int64_t j = 0; j < B; ++j) {
    peak.highest.offer(y[j], first + j);
    peak.lowest.offer(-y[j], first + j);
  }
}

// Exchanges columns 0 and d of a contiguous matrix.
Tensor exchange_columns(Tensor a, int64_t d) {
  auto entries = a.accessor<double, 2>();
  for (int64_t i = 0; i < a.size(0); ++i) std::swap(entries[i][0], entries[i][d]);
  return a;
}

// R times base with rows and columns 0 and d exchanged.
Tensor next_product(const Tensor& R, const Tensor& base, int64_t d) {
  return exchange_columns(at::mm(exchange_columns(R.clone(), d), base), d);
}

void check_arguments(const Tensor& x, int64_t block, const Tensor& base, const GreedyOptions& options) {
  const auto fail = [](const std::string& what) { throw Error("greedy_rotation", what); };
  if (x.dim() != 2 || x.numel() == 0) fail("there are no activations to search on");
  if (block < 1 || x.size(1) % block != 0)
    fail("blocks of " + std::to_string(block) + " do not divide " + std::to_string(x.size(1)) + " channels");
  if (base.dim() != 2 || base.size(0) != block || base.size(1) != block)
    fail("the base rotation is not a square of " + std::to_string(block));
  const Tensor square = at::mm(base.to(at::kCPU, at::kDouble), base.to(at::kCPU, at::kDouble).t());
  if (!((square - at::eye(block, square.options())).abs().max().item<double>() < 1e-3))
    fail("the base rotation is not orthogonal");
  if (options.steps < 0) fail(std::to_string(options.steps) + " steps");
}

}  // namespace

GreedyRotation greedy_rotation(const Tensor& x, int64_t block, const Tensor& base,
                               const GreedyOptions& options) {
  check_arguments(x, block, base, options);
  const Tensor rows = x.detach().to(at::kCPU, at::kFloat).contiguous().view({-1, block});
  const Tensor step = base.to(at::kCPU, at::kDouble);
  PeakFinder finder(rows, options.peak, fastest_scan(block));

  GreedyRotation best;
  std::vector<int64_t> swaps;
  Tensor R = at::eye(block, at::kDouble);
  for (int64_t k = 0;; ++k) {
    const Peak peak = finder.find(R);
    const double size = peak.size(options.peak);
    if (k == 0) best.peak_before = size;
    if (k == 0 || size < best.peak_after * (1 - kRounding)) {
      best.R = R;
      best.steps = k;
      best.peak_after = size;
    }
    if (k == options.steps || size == 0) break;
    swaps.push_back(peak.largest_entry() % block);
    R = next_product(R, step, swaps.back());
  }
  swaps.resize(static_cast<size_t>(best.steps));
  best.swaps = std::move(swaps);
  return best;
}

}  // namespace ptq
