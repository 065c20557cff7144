// The ops that go along time: scans and the convolution. The work is shared among threads by batch and
// channels, or heads.
//
// A tensor whose last dimension is contiguous is read where it is; u and z may be the halves of one
// projection and B and C slices of another. Anything else is copied first. Sizes beyond the kernels' limits
// go to the ATen form.
#include <ATen/Parallel.h>

#include <algorithm>

#include "ops/cpu.h"
#include "ops/cpu_split.h"
#include "ops/fallback.h"
#include "ptq/kernels/kernels.h"

namespace ptq::ops::cpu {
namespace {

constexpr int64_t kChannels = 64;  // in one piece of work: 4 cache lines of a row

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

Tensor ssd_scan(const Tensor& u, const Tensor& dt, const Tensor& B, const Tensor& C, const Tensor& A,
                const Tensor& dt_bias, const Tensor& D, double delta_low, double delta_high, int64_t groups,
                const OptionalTensor& h) {
  check_ssd_scan(u, dt, B, C, A, dt_bias, D, delta_low, delta_high, groups, h);
  const int64_t batch = u.size(0), length = u.size(1), inner = u.size(2), heads = A.size(0);
  const int64_t state = B.size(2) / groups, channels = inner / heads, heads_of_group = heads / groups;
  const Sequence us(u), dts(dt), Bs(B), Cs(C);
  const Tensor A_row = A.contiguous(), bias_row = dt_bias.contiguous(), D_row = D.contiguous();
  const Tensor last = h ? h->contiguous() : at::zeros({batch, heads, state, channels}, u.options());
  const Tensor y = at::empty({batch, length, inner}, u.options());
  const float* A_data = A_row.const_data_ptr<float>();
  const float* bias_data = bias_row.const_data_ptr<float>();
  const float* D_data = D_row.const_data_ptr<float>();
  float* h_data = last.data_ptr<float>();
  float* y_data = y.data_ptr<float>();
  const int64_t grain = std::max<int64_t>(1, kValues / std::max<int64_t>(1, length * state * channels));
  at::parallel_for(0, batch * heads, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t b = i / heads, head = i % heads, group = head / heads_of_group;
      kernels::run(kernels::SsdScan{.u = us.at(b) + head * channels,
                                    .dt = dts.at(b) + head,
                                    .B = Bs.at(b) + group * state,
                                    .C = Cs.at(b) + group * state,
                                    .D = D_data + head * channels,
                                    .h = h_data + i * state * channels,
                                    .y = y_data + b * length * inner + head * channels,
                                    .u_stride = us.row,
                                    .dt_stride = dts.row,
                                    .B_stride = Bs.row,
                                    .C_stride = Cs.row,
                                    .y_stride = inner,
                                    .length = length,
                                    .channels = channels,
                                    .state = state,
                                    .A = A_data[head],
                                    .dt_bias = bias_data[head],
                                    .delta_low = static_cast<float>(delta_low),
                                    .delta_high = static_cast<float>(delta_high)});
    }
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

}  // namespace ptq::ops::cpu
