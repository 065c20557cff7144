// The two scans.
//
// By Cauchy and Schwarz, |x.r - x^.r^| = |(x - x^).r + x^.(r - r^)| <= |x - x^| |r| + |x^| |r - r^|. The
// float scan has x^ = x and r^ = r rounded to float32, so only rounding is left. The scan in codes rounds
// rows and R to 8 bits: both norms on the right are a hundredth of those on the left, and the integer product
// is exact. Few rows lie within a hundredth of the largest entry, and only those are computed exactly.
#include "step/row_scan.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "ptq/base/error.h"
#include "ptq/ops/ops.h"
#ifdef PTQ_STEP_VNNI
#include "step/row_scan_vnni.h"
#endif

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

#ifdef PTQ_STEP_VNNI

class CodeScan : public RowScan {
 public:
  CodeScan(const Tensor& x, const std::vector<int64_t>& order, std::vector<float> norm);

  Reached scan(int64_t begin, int64_t end, float* high, float* low) const override {
    const int64_t first = begin / vnni::kGroup;
    const int64_t whole = end / vnni::kGroup;
    Reached reached;
    run(first, whole, high, low, reached);
    if (end % vnni::kGroup == 0) return reached;
    float last_high[vnni::kGroup], last_low[vnni::kGroup];
    run(whole, whole + 1, last_high, last_low, reached);
    std::copy_n(last_high, end - whole * vnni::kGroup, high + (whole - first) * vnni::kGroup);
    std::copy_n(last_low, end - whole * vnni::kGroup, low + (whole - first) * vnni::kGroup);
    return reached;
  }

 protected:
  double approximate(const Tensor& R) override;

 private:
  void run(int64_t first, int64_t last, float* high, float* low, Reached& reached) const {
    const int64_t row = first * vnni::kGroup;
    vnni::scan({codes_.data() + row * quads_ * 4, scale_.data() + row, norm_padded_.data() + row,
                error_.data() + row, columns_.data(), offset_.data(), high, low, &reached.highest,
                &reached.lowest, last - first, quads_, tiles_, scale_of_columns_, factor_of_norm(),
                factor_of_error()});
  }

  int64_t quads_;
  int64_t tiles_;
  std::vector<uint8_t> codes_;  // x^
  std::vector<float> scale_, norm_padded_;
  std::vector<float> error_;     // at least |x - x^|
  std::vector<int8_t> columns_;  // R^
  std::vector<int32_t> offset_;
  float scale_of_columns_ = 0;
};

CodeScan::CodeScan(const Tensor& x, const std::vector<int64_t>& order, std::vector<float> norm)
    : RowScan(std::move(norm)),
      quads_((x.size(1) + 3) / 4),
      tiles_((x.size(1) + vnni::kTile - 1) / vnni::kTile) {
  const auto padded = static_cast<size_t>((rows() + vnni::kGroup - 1) / vnni::kGroup * vnni::kGroup);
  codes_.resize(padded * static_cast<size_t>(quads_) * 4);
  scale_.resize(padded);
  // Beyond the last row nothing is known, so nothing is surely reached.
  error_.assign(padded, std::numeric_limits<float>::infinity());
  norm_padded_ = norm_;
  norm_padded_.resize(padded, 0);
  vnni::pack_rows({x.const_data_ptr<float>(), order.data(), codes_.data(), scale_.data(), error_.data(),
                   rows(), x.size(1)});
  // float32 adds up to two roundings of each value to the error, and loses squares of less than 1e-38.
  for (size_t i = 0; i < norm_.size(); ++i)
    error_[i] = static_cast<float>(error_[i] * kMargin + norm_[i] * 0x1p-22 + kTiniest);
}

double CodeScan::approximate(const Tensor& R) {
  constexpr double kRound = 0x1.8p52;  // adding it leaves an integer, halves to even
  const int64_t B = R.size(0);
  const Tensor transposed = R.t().contiguous();
  const double* r = transposed.const_data_ptr<double>();
  scale_of_columns_ = static_cast<float>(std::max(R.abs().max().item<double>(), 1e-30) / 127);
  const auto step = static_cast<double>(scale_of_columns_);
  columns_.assign(static_cast<size_t>(tiles_ * quads_ * vnni::kTile * 4), 0);
  offset_.assign(static_cast<size_t>(tiles_ * vnni::kTile), 0);
  double largest_error = 0;
  for (int64_t c = 0; c < tiles_ * vnni::kTile; ++c) {
    const double* column = r + std::min(c, B - 1) * B;
    int8_t* codes = columns_.data() + (c / vnni::kTile * quads_ * vnni::kTile + c % vnni::kTile) * 4;
    double error = 0;
    int32_t sum = 0;
    for (int64_t k = 0; k < B; ++k) {
      const double code = std::clamp((column[k] / step + kRound) - kRound, -127.0, 127.0);
      codes[k / 4 * vnni::kTile * 4 + k % 4] = static_cast<int8_t>(code);
      error += (column[k] - code * step) * (column[k] - code * step);
      sum += static_cast<int32_t>(code);
    }
    offset_[static_cast<size_t>(c)] = -128 * sum;
    largest_error = std::max(largest_error, error);
  }
  // Integers above 2^24 are rounded once, their product with the scales twice, and bounds once more.
  return std::sqrt(largest_error) + 0x1p-21;
}

#endif

}  // namespace

void RowScan::rotate_by(const Tensor& R) {
  const double error = approximate(R);
  column_norm_ = static_cast<float>(std::sqrt(R.square().sum(0).max().item<double>()) * kMargin);
  column_error_ = static_cast<float>(error * kMargin);
}

bool can_scan(ScanKind kind, int64_t block) {
  if (kind == ScanKind::kFloat) return true;
#ifdef PTQ_STEP_VNNI
  constexpr int64_t kLargestBlock = 65536;  // 255 * 127 * block fits in 32 bits
  return std::string_view(ops::isa_name()) == "avx512" && __builtin_cpu_supports("avx512vnni") &&
         block <= kLargestBlock;
#else
  (void)block;
  return false;
#endif
}

std::unique_ptr<RowScan> make_row_scan(ScanKind kind, const Tensor& x, const std::vector<int64_t>& order,
                                       std::vector<float> norm) {
  if (!can_scan(kind, x.size(1))) throw Error("row scan", "this machine cannot scan in 8-bit codes");
#ifdef PTQ_STEP_VNNI
  if (kind == ScanKind::kCodes) return std::make_unique<CodeScan>(x, order, std::move(norm));
#endif
  return std::make_unique<FloatScan>(x, order, std::move(norm));
}

}  // namespace ptq
