// The ops that go along rows: turns tensors into the rows and strides the kernels want, and shares the rows
// among threads. A kernel's results do not depend on how its work is split, so neither do these on the number
// of threads. Those that go along time are in cpu_time.cpp.
//
// A tensor whose last dimension is contiguous is read where it is. Anything else is copied first. Sizes
// beyond the kernels' limits go to the ATen form.
#include "ops/cpu.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <vector>

#include "ops/cpu_split.h"
#include "ops/fallback.h"
#include "ptq/kernels/kernels.h"

namespace ptq::ops::cpu {
namespace {

// x [..., n] as rows of n, or of a part of n, that are contiguous; copies only if no view exists. A
// contiguous tensor is not looked at by libtorch: with one token a view costs as much as the work.
struct Rows {
  explicit Rows(const Tensor& x) : Rows(x, x.size(-1)) {}
  Rows(const Tensor& x, int64_t row_size) : kept(x), stride(row_size), columns(row_size) {
    if (!x.is_contiguous()) {
      kept = with_contiguous_rows(x.reshape({-1, columns}));
      stride = kept.stride(0);
    }
    count = kept.numel() / std::max<int64_t>(1, columns);
    data = kept.const_data_ptr<float>();
  }

  Tensor kept;
  const float* data;
  int64_t count, stride, columns;
};

// An empty tensor for a value from each row of x [..., n]: [..., 1], or from each group of it: [..., groups,
// 1].
Tensor one_per_row(const Tensor& x, int64_t group, at::ScalarType type) {
  std::vector<int64_t> shape = x.sizes().vec();
  if (group != 0) shape.back() /= group;
  if (group != 0) shape.push_back(1);
  shape.back() = 1;
  return at::empty(shape, type);
}

// run(first, count) for groups of rows.
template <typename Run>
void for_rows(const Rows& rows, const Run& run) {
  const int64_t grain = std::max<int64_t>(1, kValues / std::max<int64_t>(1, rows.columns));
  at::parallel_for(0, rows.count, grain, [&](int64_t begin, int64_t end) { run(begin, end - begin); });
}

// One row of `columns` values by one scale; whether a value is NaN.
bool round_row(const float* row, int64_t columns, float scale, float low, float high, int8_t* codes) {
  bool has_nan = false;
  kernels::run(kernels::QuantizeCodes{.x = row,
                                      .scale = &scale,
                                      .y = codes,
                                      .has_nan = &has_nan,
                                      .x_stride = columns,
                                      .y_stride = columns,
                                      .scale_stride = 0,
                                      .rows = 1,
                                      .columns = columns,
                                      .low = low,
                                      .high = high});
  return has_nan;
}

}  // namespace

Tensor hadamard(const Tensor& x, const Tensor& left, int64_t block) {
  check_hadamard(x, left, block);
  const int64_t m = left.size(0);
  if (m > kernels::kMaxHadamardLeft) return fallback::hadamard(x, left, block);
  const Rows rows(x);
  const Tensor matrix = left.contiguous(), y = at::empty(x.sizes(), at::kFloat);
  const float* left_data = matrix.const_data_ptr<float>();
  float* y_data = y.data_ptr<float>();
  for_rows(rows, [&](int64_t first, int64_t count) {
    kernels::run(kernels::Hadamard{.x = rows.data + first * rows.stride,
                                   .left = left_data,
                                   .y = y_data + first * rows.columns,
                                   .x_stride = rows.stride,
                                   .y_stride = rows.columns,
                                   .rows = count,
                                   .columns = rows.columns,
                                   .block = block,
                                   .m = m});
  });
  return y;
}

std::tuple<Tensor, Tensor> quantize_codes(const Tensor& x, const Tensor& scale, int64_t low, int64_t high) {
  check_quantize_codes(x, scale, low, high);
  const int64_t scale_stride = scale.numel() == 1 ? 0 : 1;
  const Rows rows(x);
  const Tensor scales = scale.contiguous(), y = at::empty(x.sizes(), at::kChar);
  const float* scale_data = scales.const_data_ptr<float>();
  int8_t* y_data = y.data_ptr<int8_t>();
  std::atomic<bool> has_nan = false;
  for_rows(rows, [&](int64_t first, int64_t count) {
    bool has_nan_here = false;
    kernels::run(kernels::QuantizeCodes{.x = rows.data + first * rows.stride,
                                        .scale = scale_data + first * scale_stride,
                                        .y = y_data + first * rows.columns,
                                        .has_nan = &has_nan_here,
                                        .x_stride = rows.stride,
                                        .y_stride = rows.columns,
                                        .scale_stride = scale_stride,
                                        .rows = count,
                                        .columns = rows.columns,
                                        .low = static_cast<float>(low),
                                        .high = static_cast<float>(high)});
    if (has_nan_here) has_nan = true;
  });
  if (has_nan) return fallback::quantize_codes(x, scale, low, high);  // which tells the rows apart
  return {y, scale.clone()};
}

Tensor round_to_codes(const Tensor& x, const Tensor& scale, int64_t low, int64_t high) {
  check_round_to_codes(x, scale, low, high);
  const Rows rows(x);
  const Tensor scales = scale.contiguous(), y = at::empty(x.sizes(), at::kFloat);
  const float* scale_data = scales.const_data_ptr<float>();
  float* y_data = y.data_ptr<float>();
  for_rows(rows, [&](int64_t first, int64_t count) {
    kernels::run(kernels::RoundToCodes{.x = rows.data + first * rows.stride,
                                       .scale = scale_data,
                                       .y = y_data + first * rows.columns,
                                       .x_stride = rows.stride,
                                       .y_stride = rows.columns,
                                       .scale_stride = scale.numel() == 1 ? 0 : 1,
                                       .rows = count,
                                       .columns = rows.columns,
                                       .low = static_cast<float>(low),
                                       .high = static_cast<float>(high)});
  });
  return y;
}

// A row is in the nearest cache when it is rounded.
std::tuple<Tensor, Tensor> quantize_symmetric(const Tensor& x, int64_t bits, double clip, int64_t group) {
  check_quantize_symmetric(x, bits, clip, group);
  const Rows rows(x, group == 0 ? x.size(-1) : group);
  const Tensor y = at::empty(x.sizes(), at::kChar), step = one_per_row(x, group, at::kFloat);
  const auto high = static_cast<float>((int64_t{1} << (bits - 1)) - 1), kept = static_cast<float>(clip);
  int8_t* y_data = y.data_ptr<int8_t>();
  float* step_data = step.data_ptr<float>();
  for_rows(rows, [&](int64_t first, int64_t count) {
    for (int64_t r = first; r < first + count; ++r) {
      const float* row = rows.data + r * rows.stride;
      float amax = 0;
      kernels::run(kernels::AbsMaxRows{
          .x = row, .y = &amax, .x_stride = rows.stride, .rows = 1, .columns = rows.columns});
      const float wanted = amax * kept / high;
      step_data[r] = wanted < kernels::kSmallestStep ? kernels::kSmallestStep : wanted;  // keeps a NaN
      // The step of a NaN is one too.
      round_row(row, rows.columns, step_data[r], -high - 1, high, y_data + r * rows.columns);
    }
  });
  return {y, step};
}

std::tuple<Tensor, Tensor, Tensor> quantize_asymmetric(const Tensor& x, int64_t bits, double clip,
                                                       int64_t group) {
  check_quantize_asymmetric(x, bits, clip, group);
  const Rows rows(x, group == 0 ? x.size(-1) : group);
  const Tensor y = at::empty(x.sizes(), at::kByte), step = one_per_row(x, group, at::kFloat),
               zero = one_per_row(x, group, at::kByte);
  uint8_t* y_data = y.data_ptr<uint8_t>();
  uint8_t* zero_data = zero.data_ptr<uint8_t>();
  float* step_data = step.data_ptr<float>();
  for_rows(rows, [&](int64_t first, int64_t count) {
    kernels::run(kernels::QuantizeAsymmetric{.x = rows.data + first * rows.stride,
                                             .y = y_data + first * rows.columns,
                                             .zero = zero_data + first,
                                             .step = step_data + first,
                                             .x_stride = rows.stride,
                                             .y_stride = rows.columns,
                                             .rows = count,
                                             .columns = rows.columns,
                                             .last = static_cast<float>((int64_t{1} << bits) - 1),
                                             .clip = static_cast<float>(clip)});
  });
  return {y, zero, step};
}

Tensor abs_max_rows(const Tensor& x) {
  check_abs_max_rows(x);
  const Rows rows(x);
  const Tensor y = one_per_row(x, 0, at::kFloat);
  float* y_data = y.data_ptr<float>();
  for_rows(rows, [&](int64_t first, int64_t count) {
    kernels::run(kernels::AbsMaxRows{.x = rows.data + first * rows.stride,
                                     .y = y_data + first,
                                     .x_stride = rows.stride,
                                     .rows = count,
                                     .columns = rows.columns});
  });
  return y;
}

Tensor rms_norm(const Tensor& x, const Tensor& gain, double eps, int64_t groups) {
  check_rms_norm(x, gain, groups);
  const Rows rows(x);
  const Tensor gains = gain.contiguous(), y = at::empty(x.sizes(), at::kFloat);
  const float* gain_data = gains.const_data_ptr<float>();
  float* y_data = y.data_ptr<float>();
  const int64_t width = rows.columns / groups;
  for_rows(rows, [&](int64_t first, int64_t count) {
    for (int64_t begin = 0; begin < rows.columns; begin += width) {
      kernels::run(kernels::RmsNorm{.x = rows.data + first * rows.stride + begin,
                                    .gain = gain_data + begin,
                                    .y = y_data + first * rows.columns + begin,
                                    .x_stride = rows.stride,
                                    .y_stride = rows.columns,
                                    .rows = count,
                                    .columns = width,
                                    .eps = static_cast<float>(eps)});
    }
  });
  return y;
}

Tensor gather_columns(const Tensor& x, const Tensor& index) {
  check_gather_columns(x, index);
  const int64_t columns = x.size(-1), count = index.numel();
  TORCH_CHECK(columns <= std::numeric_limits<int32_t>::max(), "ptq::gather_columns: ", columns, " columns");
  const Rows rows(x);
  const Tensor list = index.contiguous();
  const int64_t* wanted = list.const_data_ptr<int64_t>();
  std::vector<int32_t> places(static_cast<size_t>(count));
  const auto is_outside = [columns](int64_t column) { return column < 0 || column >= columns; };
  bool outside = false;  // looked for without a branch: a permutation is as long as a row
  for (int64_t i = 0; i < count; ++i) {
    outside |= is_outside(wanted[i]);
    places[static_cast<size_t>(i)] = static_cast<int32_t>(wanted[i]);
  }
  TORCH_CHECK(!outside, "ptq::gather_columns: column ", *std::find_if(wanted, wanted + count, is_outside),
              " of ", columns);
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = count;
  const Tensor y = at::empty(shape, at::kFloat);
  float* y_data = y.data_ptr<float>();
  for_rows(rows, [&](int64_t first, int64_t number) {
    kernels::run(kernels::GatherColumns{.x = rows.data + first * rows.stride,
                                        .index = places.data(),
                                        .y = y_data + first * count,
                                        .x_stride = rows.stride,
                                        .y_stride = count,
                                        .rows = number,
                                        .columns = count});
  });
  return y;
}

}  // namespace ptq::ops::cpu
