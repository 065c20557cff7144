// Turns tensors into the rows and strides the kernels want, and shares the work among threads: the scan and
// the convolution by batch and channels, the others by rows. A kernel's results do not depend on how its work
// is split, so neither do these on the number of threads.
//
// A tensor whose last dimension is contiguous is read where it is; u and z may be the halves of one
// projection and B and C slices of another. Anything else is copied first. Sizes beyond the kernels' limits
// go to the ATen form.
#include "ops/cpu.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <vector>

#include "ops/fallback.h"
#include "ptq/kernels/kernels.h"

namespace ptq::ops::cpu {
namespace {

constexpr int64_t kChannels =
    64;  // of the scan and the convolution in one piece of work: 4 cache lines of a row
constexpr int64_t kValues = 1 << 15;  // in one piece of work of the kernels that go along rows

// The tensor itself if rows of its last dimension are contiguous, else a copy.
Tensor with_contiguous_rows(const Tensor& x) {
  return x.stride(-1) == 1 || x.size(-1) == 1 ? x : x.contiguous();
}

// [..., n] as [rows, n] with contiguous rows; copies only if no view exists.
Tensor as_rows(const Tensor& x) {
  return with_contiguous_rows(x.reshape({-1, x.size(-1)}));
}

// An empty [..., 1] for a value from each row of x [..., n].
Tensor one_per_row(const Tensor& x) {
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = 1;
  return at::empty(shape, x.options());
}

// A [batch, length, n] tensor with contiguous rows.
struct Sequence {
  explicit Sequence(const Tensor& x)
      : kept(with_contiguous_rows(x)),
        data(kept.data_ptr<float>()),
        batch(kept.stride(0)),
        row(kept.stride(1)) {}
  float* at(int64_t b) const { return data + b * batch; }

  Tensor kept;
  float* data;
  int64_t batch, row;  // strides
};

// run(b, first, count) for every row of the batch and groups of kChannels channels. `values` is the work for
// one channel; a decoding step of a small model stays on one thread.
template <typename Run>
void for_channels(int64_t batch, int64_t channels, int64_t values, const Run& run) {
  const int64_t groups = (channels + kChannels - 1) / kChannels;
  const int64_t grain = std::max<int64_t>(1, kValues / std::max<int64_t>(1, values * kChannels));
  at::parallel_for(0, batch * groups, grain, [&](int64_t begin, int64_t end) {
    while (begin < end) {  // neighbouring groups in one call
      const int64_t b = begin / groups, last = std::min(end, (b + 1) * groups);
      const int64_t first = begin % groups * kChannels;
      run(b, first, std::min(channels, (last - b * groups) * kChannels) - first);
      begin = last;
    }
  });
}

// run(first, count) for groups of rows.
template <typename Run>
void for_rows(const Tensor& rows, const Run& run) {
  const int64_t grain = std::max<int64_t>(1, kValues / rows.size(1));
  at::parallel_for(0, rows.size(0), grain, [&](int64_t begin, int64_t end) { run(begin, end - begin); });
}

// window <- the last width - 1 inputs, of which the first ones may be its own.
void advance_window(const Tensor& window, const Tensor& x) {
  const int64_t kept = window.size(1), length = x.size(1);
  if (length >= kept) {
    window.copy_(x.narrow(1, length - kept, kept));
  } else {
    window.copy_(at::cat({window.narrow(1, length, kept - length), x}, 1));
  }
}

}  // namespace

Tensor selective_scan(const Tensor& u, const Tensor& dt, const Tensor& A, const Tensor& B, const Tensor& C,
                      const Tensor& D, const Tensor& z, const OptionalTensor& h) {
  check_selective_scan(u, dt, A, B, C, D, z, h);
  const int64_t batch = u.size(0), length = u.size(1), inner = u.size(2), state = A.size(1);
  if (state > kernels::kMaxState) return fallback::selective_scan(u, dt, A, B, C, D, z, h);
  const Sequence us(u), dts(dt), zs(z), Bs(B), Cs(C);
  const Tensor A_rows = A.contiguous(), D_row = D.contiguous();
  const Tensor last = h ? h->contiguous() : Tensor();
  const Tensor y = at::empty({batch, length, inner}, u.options());
  const float* A_data = A_rows.const_data_ptr<float>();
  const float* D_data = D_row.const_data_ptr<float>();
  float* h_data = h ? last.data_ptr<float>() : nullptr;
  float* y_data = y.data_ptr<float>();
  for_channels(batch, inner, length * state, [&](int64_t b, int64_t first, int64_t count) {
    kernels::run(kernels::SelectiveScan{.u = us.at(b) + first,
                                        .dt = dts.at(b) + first,
                                        .z = zs.at(b) + first,
                                        .B = Bs.at(b),
                                        .C = Cs.at(b),
                                        .A = A_data + first * state,
                                        .D = D_data + first,
                                        .h = h_data ? h_data + (b * inner + first) * state : nullptr,
                                        .y = y_data + b * length * inner + first,
                                        .u_stride = us.row,
                                        .dt_stride = dts.row,
                                        .z_stride = zs.row,
                                        .B_stride = Bs.row,
                                        .C_stride = Cs.row,
                                        .y_stride = inner,
                                        .length = length,
                                        .channels = count,
                                        .state = state});
  });
  if (h && !last.is_same(*h)) h->copy_(last);
  return y;
}

Tensor causal_conv1d_silu(const Tensor& x, const Tensor& weight, const OptionalTensor& bias,
                          const OptionalTensor& window) {
  check_causal_conv1d_silu(x, weight, bias, window);
  const int64_t batch = x.size(0), length = x.size(1), inner = x.size(2), width = weight.size(1);
  if (width > kernels::kMaxConvWidth) return fallback::causal_conv1d_silu(x, weight, bias, window);
  const Sequence xs(x);
  const Tensor weight_rows = weight.contiguous(), bias_row = bias ? bias->contiguous() : Tensor();
  const Tensor before = window ? window->contiguous() : Tensor();
  const Tensor y = at::empty({batch, length, inner}, x.options());
  const float* weight_data = weight_rows.const_data_ptr<float>();
  const float* bias_data = bias ? bias_row.const_data_ptr<float>() : nullptr;
  const float* before_data = window ? before.const_data_ptr<float>() : nullptr;
  float* y_data = y.data_ptr<float>();
  for_channels(batch, inner, length * width, [&](int64_t b, int64_t first, int64_t count) {
    kernels::run(
        kernels::CausalConv{.x = xs.at(b) + first,
                            .weight = weight_data + first * width,
                            .bias = bias_data ? bias_data + first : nullptr,
                            .window = before_data ? before_data + b * (width - 1) * inner + first : nullptr,
                            .y = y_data + b * length * inner + first,
                            .x_stride = xs.row,
                            .window_stride = inner,
                            .y_stride = inner,
                            .length = length,
                            .channels = count,
                            .width = width});
  });
  if (window) advance_window(*window, x);
  return y;
}

Tensor hadamard(const Tensor& x, const Tensor& left, int64_t block) {
  check_hadamard(x, left, block);
  const int64_t m = left.size(0), columns = x.size(-1);
  if (m > kernels::kMaxHadamardLeft) return fallback::hadamard(x, left, block);
  const Tensor rows = as_rows(x), matrix = left.contiguous();
  const Tensor y = at::empty(x.sizes(), x.options());
  const float* x_data = rows.const_data_ptr<float>();
  const float* left_data = matrix.const_data_ptr<float>();
  float* y_data = y.data_ptr<float>();
  for_rows(rows, [&, stride = rows.stride(0)](int64_t first, int64_t count) {
    kernels::run(kernels::Hadamard{.x = x_data + first * stride,
                                   .left = left_data,
                                   .y = y_data + first * columns,
                                   .x_stride = stride,
                                   .y_stride = columns,
                                   .rows = count,
                                   .columns = columns,
                                   .block = block,
                                   .m = m});
  });
  return y;
}

std::tuple<Tensor, Tensor> quantize_codes(const Tensor& x, const Tensor& scale, int64_t low, int64_t high) {
  check_quantize_codes(x, scale, low, high);
  const int64_t columns = x.size(-1), scale_stride = scale.numel() == 1 ? 0 : 1;
  const Tensor rows = as_rows(x), scales = scale.contiguous();
  const Tensor y = at::empty(x.sizes(), x.options().dtype(at::kChar));
  const float* x_data = rows.const_data_ptr<float>();
  const float* scale_data = scales.const_data_ptr<float>();
  int8_t* y_data = y.data_ptr<int8_t>();
  std::atomic<bool> has_nan = false;
  for_rows(rows, [&, stride = rows.stride(0)](int64_t first, int64_t count) {
    bool has_nan_here = false;
    kernels::run(kernels::QuantizeCodes{.x = x_data + first * stride,
                                        .scale = scale_data + first * scale_stride,
                                        .y = y_data + first * columns,
                                        .has_nan = &has_nan_here,
                                        .x_stride = stride,
                                        .y_stride = columns,
                                        .scale_stride = scale_stride,
                                        .rows = count,
                                        .columns = columns,
                                        .low = static_cast<float>(low),
                                        .high = static_cast<float>(high)});
    if (has_nan_here) has_nan = true;
  });
  if (has_nan) return fallback::quantize_codes(x, scale, low, high);  // which tells the rows apart
  return {y, scale.clone()};
}

std::tuple<Tensor, Tensor, Tensor> quantize_asymmetric(const Tensor& x, int64_t bits, double clip) {
  check_quantize_asymmetric(x, bits, clip);
  const int64_t columns = x.size(-1);
  const Tensor rows = as_rows(x), y = at::empty(x.sizes(), x.options().dtype(at::kByte));
  const Tensor step = one_per_row(x), zero = at::empty(step.sizes(), y.options());
  const float* x_data = rows.const_data_ptr<float>();
  uint8_t* y_data = y.data_ptr<uint8_t>();
  uint8_t* zero_data = zero.data_ptr<uint8_t>();
  float* step_data = step.data_ptr<float>();
  for_rows(rows, [&, stride = rows.stride(0)](int64_t first, int64_t count) {
    kernels::run(kernels::QuantizeAsymmetric{.x = x_data + first * stride,
                                             .y = y_data + first * columns,
                                             .zero = zero_data + first,
                                             .step = step_data + first,
                                             .x_stride = stride,
                                             .y_stride = columns,
                                             .rows = count,
                                             .columns = columns,
                                             .last = static_cast<float>((int64_t{1} << bits) - 1),
                                             .clip = static_cast<float>(clip)});
  });
  return {y, zero, step};
}

Tensor abs_max_rows(const Tensor& x) {
  check_abs_max_rows(x);
  const Tensor rows = as_rows(x), y = one_per_row(x);
  const float* x_data = rows.const_data_ptr<float>();
  float* y_data = y.data_ptr<float>();
  for_rows(rows, [&, stride = rows.stride(0)](int64_t first, int64_t count) {
    kernels::run(kernels::AbsMaxRows{.x = x_data + first * stride,
                                     .y = y_data + first,
                                     .x_stride = stride,
                                     .rows = count,
                                     .columns = x.size(-1)});
  });
  return y;
}

Tensor rms_norm(const Tensor& x, const Tensor& gain, double eps) {
  check_rms_norm(x, gain);
  const int64_t columns = x.size(-1);
  const Tensor rows = as_rows(x), gains = gain.contiguous();
  const Tensor y = at::empty(x.sizes(), x.options());
  const float* x_data = rows.const_data_ptr<float>();
  const float* gain_data = gains.const_data_ptr<float>();
  float* y_data = y.data_ptr<float>();
  for_rows(rows, [&, stride = rows.stride(0)](int64_t first, int64_t count) {
    kernels::run(kernels::RmsNorm{.x = x_data + first * stride,
                                  .gain = gain_data,
                                  .y = y_data + first * columns,
                                  .x_stride = stride,
                                  .y_stride = columns,
                                  .rows = count,
                                  .columns = columns,
                                  .eps = static_cast<float>(eps)});
  });
  return y;
}

Tensor gather_columns(const Tensor& x, const Tensor& index) {
  check_gather_columns(x, index);
  const int64_t columns = x.size(-1), count = index.numel();
  TORCH_CHECK(columns <= std::numeric_limits<int32_t>::max(), "ptq::gather_columns: ", columns, " columns");
  const Tensor rows = as_rows(x), list = index.contiguous();
  const int64_t* wanted = list.const_data_ptr<int64_t>();
  std::vector<int32_t> places(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    TORCH_CHECK(wanted[i] >= 0 && wanted[i] < columns, "ptq::gather_columns: column ", wanted[i], " of ",
                columns);
    places[static_cast<size_t>(i)] = static_cast<int32_t>(wanted[i]);
  }
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = count;
  const Tensor y = at::empty(shape, x.options());
  const float* x_data = rows.const_data_ptr<float>();
  float* y_data = y.data_ptr<float>();
  for_rows(rows, [&, stride = rows.stride(0)](int64_t first, int64_t number) {
    kernels::run(kernels::GatherColumns{.x = x_data + first * stride,
                                        .index = places.data(),
                                        .y = y_data + first * count,
                                        .x_stride = stride,
                                        .y_stride = count,
                                        .rows = number,
                                        .columns = count});
  });
  return y;
}

}  // namespace ptq::ops::cpu
