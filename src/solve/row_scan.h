// Where the extremes of each row of x R lie, roughly but surely: what the greedy search prunes by.
#pragma once

#include <ATen/ATen.h>

#include <limits>
#include <memory>
#include <vector>

namespace ptq {

using at::Tensor;

// What some of the rows scanned surely reach: the largest entry, and the largest of the negated entries.
struct Reached {
  float highest = -std::numeric_limits<float>::infinity();
  float lowest = -std::numeric_limits<float>::infinity();
};

// Rows of x in a given order, ready to be multiplied by one rotation after the other. A place is a row's
// index in that order.
class RowScan {
 public:
  virtual ~RowScan() = default;
  // R [B, B] float64, any matrix.
  void rotate_by(const Tensor& R);
  // For each row from place `begin`, a multiple of kAlign, to `end`: no entry of the row of x R is larger
  // than `high`, none of the negated entries larger than `low` [end - begin]. Callable from several threads.
  virtual Reached scan(int64_t begin, int64_t end, float* high, float* low) const = 0;
  // No entry of the row is larger than this in magnitude: its norm, as R is a rotation.
  float bound(int64_t place) const { return norm_[static_cast<size_t>(place)] * column_norm_; }
  int64_t rows() const { return static_cast<int64_t>(norm_.size()); }

  static constexpr int64_t kAlign = 64;

 protected:
  explicit RowScan(std::vector<float> norm) : norm_(std::move(norm)) {}
  // Takes over R^, which scan() multiplies by instead of R. Returns the largest |r - r^| of all columns, plus
  // what rounding in scan() can add, relative to |x^|.
  virtual double approximate(const Tensor& R) = 0;

  // |x.r - x^.r^| is at most |x - x^| |r| + |x^| |r - r^|, and |x^| at most |x| + |x - x^|.
  float factor_of_error() const { return column_norm_ + column_error_; }  // of |x - x^|
  float factor_of_norm() const { return column_error_; }                  // of |x|

  std::vector<float> norm_;  // at least |x|, by place

 private:
  float column_norm_ = 0;  // at least the largest |r|: 1 for a rotation
  float column_error_ = 0;
};

enum class ScanKind {
  kFloat,  // a matrix product in float32
  kCodes,  // in 8-bit codes: four times as fast where the processor has instructions for it
};

// Of this processor, or of the instruction set that PTQ_ISA names. Both kinds work anywhere.
ScanKind fastest_scan(int64_t block);

// Norms in float32, as they have to be passed on: what its arithmetic can lose is added.
constexpr double kMargin = 1 + 1e-4;
constexpr double kTiniest = 1e-16;  // the root of the squares that vanish

// x [rows, B] float32 contiguous on the CPU; order [rows]: which row comes at a place; norm: at least |row|,
// by place.
std::unique_ptr<RowScan> make_row_scan(ScanKind kind, const Tensor& x, const std::vector<int64_t>& order,
                                       std::vector<float> norm);

}  // namespace ptq
