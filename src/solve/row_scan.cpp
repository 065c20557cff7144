// The two scans.
//
// By Cauchy and Schwarz, |x.r - x^.r^| = |(x - x^).r + x^.(r - r^)| <= |x - x^| |r| + |x^| |r - r^|. The
// float scan has x^ = x and r^ = r rounded to float32, so only rounding is left. The scan in codes rounds
// rows and R to 8 bits: both norms on the right are a hundredth of those on the left, and the integer product
// is exact. Few rows lie within a hundredth of the largest entry, and only those are computed exactly.
#include "solve/row_scan.h"

#include <algorithm>
#include <cmath>

#include "ptq/kernels/kernels.h"
#include "ptq/ops/ops.h"

namespace ptq {
namespace {

// A matrix product in float32 of rows and columns of `block` values is off by at most this times both norms,
// in whatever order it adds: (block + 1) u for the sum, u for R rounded to float32; twice that is asked for.
double float_error(int64_t block) {
  return static_cast<double>(block + 2) * 0x1p-23;
}

class FloatScan : public RowScan {
 public:
  FloatScan(const Tensor& x, const std::vector<int64_t>& order, std::vector<float> norm)
      : RowScan(std::move(norm)), rows_(at::zeros({rows() + kSmallChunk, x.size(1)}, x.options())) {
    Tensor ordered = rows_.slice(0, 0, rows());
    at::index_select_out(ordered, x, 0, at::tensor(order, at::kLong));
  }

  Reached scan(int64_t begin, int64_t end, float* high, float* low) const override {
    Reached reached;
    int64_t chunk = 0;  // rows
    for (int64_t first = begin; first < end; first += chunk) {
      chunk = end - first >= kChunk ? kChunk : kSmallChunk;
      const Tensor product = ops::linear(rows_.slice(0, first, first + chunk), columns_);
      const Tensor highest = at::amax(product, 1);
      const Tensor lowest = at::amin(product, 1);
      for (int64_t place = first; place < std::min(first + chunk, end); ++place) {
        const float slack = norm_[static_cast<size_t>(place)] * factor_of_norm();
        const float row_high = highest.const_data_ptr<float>()[place - first];
        const float row_low = -lowest.const_data_ptr<float>()[place - first];
        high[place - begin] = row_high + slack;
        low[place - begin] = row_low + slack;
        reached = {std::max(reached.highest, row_high - slack), std::max(reached.lowest, row_low - slack)};
      }
    }
    return reached;
  }

 protected:
  double approximate(const Tensor& R) override {
    columns_ = R.t().to(at::kFloat).contiguous();
    return float_error(R.size(0));
  }

 private:
  // Rows multiplied at once: products stay in L2. Two sizes only, because oneDNN compiles code for each.
  static constexpr int64_t kChunk = 1024;
  static constexpr int64_t kSmallChunk = 256;
  Tensor rows_;     // followed by zeros, for the last chunk
  Tensor columns_;  // R transposed
};

constexpr int64_t kGroup = kernels::kProductRows;
constexpr int64_t kTile = kernels::kProductColumns;
constexpr int64_t kLargestCode = 127;
static_assert(RowScan::kAlign % kGroup == 0);

// How many groups of `size` hold `values`.
int64_t groups_of(int64_t size, int64_t values) {
  return (values + size - 1) / size;
}

// Rows and columns lie as kernels::ProductExtremes asks: rows in groups, each code plus 128, which the starts
// of the sums take back.
class CodeScan : public RowScan {
 public:
  CodeScan(const Tensor& x, const std::vector<int64_t>& order, std::vector<float> norm);
  Reached scan(int64_t begin, int64_t end, float* high, float* low) const override;

 protected:
  double approximate(const Tensor& R) override;

 private:
  // The extremes of the rows of one group, and where their bounds go.
  struct Group {
    int64_t first, count;
    const int32_t *highest, *lowest;
    float *high, *low;
  };

  void take_rows(const Tensor& x, int64_t begin);
  void to_bounds(const Group& group, Reached& reached) const;

  int64_t quads_;
  int64_t tiles_;
  Tensor codes_;                 // x^ / scale_ [groups, quads, kGroup], four in an int32
  Tensor scale_;                 // [rows, 1]
  std::vector<float> error_;     // at least |x - x^|
  std::vector<int8_t> columns_;  // R^ / column_scale_
  std::vector<int32_t> starts_;
  float column_scale_ = 0;
};

CodeScan::CodeScan(const Tensor& x, const std::vector<int64_t>& order, std::vector<float> norm)
    : RowScan(std::move(norm)),
      quads_(groups_of(4, x.size(1))),
      tiles_(groups_of(kTile, x.size(1))),
      codes_(at::empty({groups_of(kGroup, rows()), quads_, kGroup}, at::kInt)),
      scale_(at::empty({rows(), 1})),
      error_(norm_.size()) {
  constexpr int64_t kChunk = 1024;  // whole groups that stay in L2 from one operation to the next
  const Tensor index = at::tensor(order, at::kLong);
  for (int64_t begin = 0; begin < rows(); begin += kChunk)
    take_rows(x.index_select(0, index.slice(0, begin, begin + kChunk)), begin);
}

// Codes, scales and errors of the rows from place `begin`.
void CodeScan::take_rows(const Tensor& x, int64_t begin) {
  const int64_t count = x.size(0);
  // Never 0, to divide by. A row of smaller values has codes of 0, and all of it is error.
  const Tensor scale = ops::abs_max_rows(x).clamp_min_(1e-30).div_(kLargestCode);
  const Tensor codes = std::get<0>(ops::quantize_codes(x, scale, -kLargestCode, kLargestCode));
  const Tensor error = at::linalg_vector_norm(at::addcmul(x, codes.to(at::kFloat), scale, -1), 2, {1});
  scale_.slice(0, begin, begin + count).copy_(scale);
  // float32 adds up to two roundings of each value to the error, and loses squares of less than 1e-38.
  for (int64_t i = 0; i < count; ++i) {
    const auto place = static_cast<size_t>(begin + i);
    error_[place] =
        static_cast<float>(error.const_data_ptr<float>()[i] * kMargin + norm_[place] * 0x1p-22 + kTiniest);
  }
  const int64_t groups = groups_of(kGroup, count);
  const Tensor bytes = at::constant_pad_nd(codes, {0, quads_ * 4 - x.size(1), 0, groups * kGroup - count});
  Tensor part = codes_.slice(0, begin / kGroup, begin / kGroup + groups);
  part.copy_(bytes.view(at::kInt).view({groups, kGroup, quads_}).transpose(1, 2));
  part.bitwise_xor_(static_cast<int32_t>(0x80808080));  // adds 128 to each byte
}

double CodeScan::approximate(const Tensor& R) {
  constexpr double kRound = 0x1.8p52;  // adding it leaves an integer, halves to even
  const int64_t B = R.size(0);
  const Tensor transposed = R.t().contiguous();
  const double* r = transposed.const_data_ptr<double>();
  column_scale_ = static_cast<float>(std::max(R.abs().max().item<double>(), 1e-30) / kLargestCode);
  const auto step = static_cast<double>(column_scale_);
  columns_.assign(static_cast<size_t>(tiles_ * quads_ * kTile * 4), 0);
  starts_.resize(static_cast<size_t>(tiles_ * kTile));
  double largest_error = 0;
  for (int64_t c = 0; c < tiles_ * kTile; ++c) {
    const double* column = r + std::min(c, B - 1) * B;  // the last one fills the last tile
    int8_t* codes = columns_.data() + (c / kTile * quads_ * kTile + c % kTile) * 4;
    double error = 0;
    int32_t sum = 0;
    for (int64_t k = 0; k < B; ++k) {
      const double code =
          std::clamp<double>((column[k] / step + kRound) - kRound, -kLargestCode, kLargestCode);
      codes[k / 4 * kTile * 4 + k % 4] = static_cast<int8_t>(code);
      error += (column[k] - code * step) * (column[k] - code * step);
      sum += static_cast<int32_t>(code);
    }
    starts_[static_cast<size_t>(c)] = -128 * sum;
    largest_error = std::max(largest_error, error);
  }
  // Integers above 2^24 are rounded once, their product with the scales twice, and bounds once more.
  return std::sqrt(largest_error) + 0x1p-21;
}

Reached CodeScan::scan(int64_t begin, int64_t end, float* high, float* low) const {
  const auto* codes = static_cast<const uint8_t*>(codes_.const_data_ptr());
  Reached reached;
  for (int64_t first = begin; first < end; first += kGroup) {
    int32_t highest[kGroup], lowest[kGroup];
    kernels::run(kernels::ProductExtremes{.rows = codes + first * quads_ * 4,
                                          .columns = columns_.data(),
                                          .start = starts_.data(),
                                          .highest = highest,
                                          .lowest = lowest,
                                          .quads = quads_,
                                          .tiles = tiles_});
    const int64_t count = std::min(kGroup, end - first);
    to_bounds({first, count, highest, lowest, high + first - begin, low + first - begin}, reached);
  }
  return reached;
}

// Left to itself, the compiler goes row by row, which adds a sixth to the time of blocks of 64.
void CodeScan::to_bounds(const Group& group, Reached& reached) const {
  const float* scale = scale_.const_data_ptr<float>() + group.first;
  const float* norm = norm_.data() + group.first;
  const float* error = error_.data() + group.first;
  const float of_norm = factor_of_norm(), of_error = factor_of_error();
  const float column_scale = column_scale_;
  float most = reached.highest, least = reached.lowest;
#pragma omp simd reduction(max : most, least)
  for (int64_t i = 0; i < group.count; ++i) {
    const float factor = scale[i] * column_scale;
    const float slack = norm[i] * of_norm + error[i] * of_error;
    const float row_high = static_cast<float>(group.highest[i]) * factor;
    const float row_low = -static_cast<float>(group.lowest[i]) * factor;
    group.high[i] = row_high + slack;
    group.low[i] = row_low + slack;
    most = std::max(most, row_high - slack);
    least = std::max(least, row_low - slack);
  }
  reached = {most, least};
}

}  // namespace

void RowScan::rotate_by(const Tensor& R) {
  const double error = approximate(R);
  column_norm_ = static_cast<float>(std::sqrt(R.square().sum(0).max().item<double>()) * kMargin);
  column_error_ = static_cast<float>(error * kMargin);
}

ScanKind fastest_scan(int64_t block) {
  const bool codes = kernels::chosen<kernels::ProductExtremes>().isa != kernels::Isa::kPlain &&
                     block <= kernels::kMaxProductQuads * 4;
  return codes ? ScanKind::kCodes : ScanKind::kFloat;
}

std::unique_ptr<RowScan> make_row_scan(ScanKind kind, const Tensor& x, const std::vector<int64_t>& order,
                                       std::vector<float> norm) {
  if (kind == ScanKind::kCodes) return std::make_unique<CodeScan>(x, order, std::move(norm));
  return std::make_unique<FloatScan>(x, order, std::move(norm));
}

}  // namespace ptq
