// GPTQ (arXiv 2210.17323), in the form of a nearest plane.
//
// Idea. An error e in a row of weights costs e M e^T in the layer's output, and inputs that go together share
// it: where one weight was rounded up, rounding a related one down takes part of the cost back. So columns
// are rounded in turn, each to what is best given the errors already made.
//
// Example. Two inputs that are nearly equal, M = [[1, 0.9], [0.9, 1]], weights (0.4, 0.4), a grid of
// integers. To nearest, both become 0 and the output loses 0.4 (x_1 + x_2), a cost of 0.61. Here the first
// becomes 0, an error of 0.4; the second is asked to be 0.4 + 0.9 * 0.4 = 0.76 and becomes 1. The errors 0.4
// and -0.6 cost 0.09.
//
// Formula. Let M = R D R^T with R upper triangular with ones on its diagonal. Then
//   e M e^T = sum_j D_j (e_j + sum_{i<j} e_i R_ij)^2,
// a sum of squares of which each column settles one: column j is rounded from
//   v_j = w_j + sum_{i<j} (w_i - q_i) R_ij.
// The paper propagates w - q of the updated weights through a Cholesky factor of M^-1 and arrives at the same
// v_j. Here no inverse is formed: R comes from one Cholesky decomposition of M with its rows and columns
// reversed, a quarter of the work, and well behaved where M is nearly singular.
//
// Rows do not depend on each other: they are shared among threads in pieces of fixed size. In a piece, a
// block of columns settles its own errors row by row, in the first-level cache; the columns behind it get
// them all in one matrix product. Decompositions run on one thread, because their last bits depend on the
// number.
//
// Memory: M twice in float64 while it is decomposed, then R in float32, v and W once each in float32.
//
// Differs from the authors' code in the form above; the mean of the diagonal that the damping is measured by
// is that of M as it is, without ones for dead channels.
#include "ptq/step/gptq.h"

#include <ATen/Parallel.h>
#include <ATen/ThreadLocalState.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "ptq/base/error.h"
#include "step/one_thread.h"

namespace ptq {
namespace {

constexpr int64_t kRows = 64;  // of a piece of work; results depend on it in their last bits

// R [in, in] float32 of the damped M = R D R^T; zeros below the diagonal.
Tensor unit_factor(const Tensor& M, double damping) {
  constexpr int kAttempts = 3;
  const OneThread one_thread;
  const Tensor reversed = M.to(at::kDouble).flip({0, 1});
  Tensor diagonal = reversed.diagonal();
  const double mean = diagonal.mean().item<double>();
  diagonal.masked_fill_(diagonal == 0, 1);  // a dead channel meets no other: any number does
  double added = 0;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    diagonal.add_(damping * mean - added);
    added = damping * mean;
    const auto [L, info] = at::linalg_cholesky_ex(reversed);
    const Tensor pivots = L.diagonal().clone();
    if (info.item<int>() == 0 && pivots.isfinite().all().item<bool>()) {
      return L.div_(pivots).to(at::kFloat).flip({0, 1}).contiguous();
    }
    damping = std::max(10 * damping, 1e-4);
  }
  throw Error("GPTQ",
              "the second moment of " + std::to_string(M.size(0)) +
                  " channels is not positive definite, even with " + std::to_string(added / mean) +
                  " of its mean on the diagonal",
              "more calibration samples, or a larger damping");
}

// What the pieces work on. Columns are in the order in which they are rounded.
struct Work {
  Tensor W;                       // [out, in] float32
  Tensor R;                       // [in, in] float32
  Tensor v;                       // [out, in] float32: what a column should be, given the errors before it
  Tensor codes;                   // [out, in] int8
  Tensor scale;                   // [out, scales] float32
  Tensor zero;                    // [out, scales] float32
  std::vector<int64_t> scale_of;  // [in] the column of `scale`
  WeightScheme scheme;
  int64_t block = 0;
  bool grids_on_the_way = false;
  Tensor clip;
};

// y [n] += factor x [n]
inline void add_scaled(float* y, const float* x, float factor, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] += factor * x[i];
}

// The grid of the group that begins at a column, for `count` rows, from the weights that would be best if
// rounding ended there.
void make_grid(Work& work, int64_t first, int64_t count, int64_t begin) {
  const int64_t width = std::min(work.scheme.group, work.W.size(1) - begin);
  const int64_t g = work.scale_of[static_cast<size_t>(begin)];
  const Tensor W = work.W.narrow(0, first, count).narrow(1, begin, width).contiguous();
  const Tensor best =
      work.v.narrow(0, first, count).narrow(1, begin, width).clone(at::MemoryFormat::Contiguous);
  const Tensor R = work.R.narrow(0, begin, width).narrow(1, begin, width).contiguous();
  const float* R_data = R.const_data_ptr<float>();
  for (int64_t r = 0; r < count; ++r) {
    const float* w = W.const_data_ptr<float>() + r * width;
    float* v = best.data_ptr<float>() + r * width;
    for (int64_t j = 0; j < width; ++j) {
      add_scaled(v + j + 1, R_data + j * width + j + 1, w[j] - v[j], width - j - 1);
    }
  }
  Tensor clip = work.clip;
  if (clip.defined() && clip.numel() > 1) clip = clip.narrow(0, first, count).narrow(1, g, 1);
  const WeightGrid grid = weight_grid(best, work.scheme, clip);
  work.scale.narrow(0, first, count).narrow(1, g, 1).copy_(grid.scale);
  if (grid.zero.defined()) work.zero.narrow(0, first, count).narrow(1, g, 1).copy_(grid.zero);
}

// A run of columns that are rounded one after the other.
struct Columns {
  int64_t begin, end;  // [begin, end) are rounded, and the columns up to block_end hear of it
  int64_t block_begin, block_end;
};

// Rounds columns of one row. R [block, block] is the block's part of the factor; its errors go to e [block].
void round_row(const Work& work, int64_t row, const Columns& columns, const float* R, float* e) {
  const int64_t in = work.W.size(1), scales = work.scale.size(1);
  const int64_t size = columns.block_end - columns.block_begin;
  const float* w = work.W.const_data_ptr<float>() + row * in;
  const float* scale = work.scale.const_data_ptr<float>() + row * scales;
  const float* zero = work.zero.const_data_ptr<float>() + row * scales;
  float* v = work.v.data_ptr<float>() + row * in;
  int8_t* codes = work.codes.data_ptr<int8_t>() + row * in;
  const auto low = static_cast<float>(work.scheme.low()), high = static_cast<float>(work.scheme.high());
  for (int64_t j = columns.begin; j < columns.end; ++j) {
    const int64_t g = work.scale_of[static_cast<size_t>(j)], i = j - columns.block_begin;
    // Groups of zeros may have a scale of 0.
    const float nearest = (scale[g] > 0 ? std::nearbyint(v[j] / scale[g]) : 0) + zero[g];
    const float code = nearest > low ? std::min(nearest, high) : low;  // NaN: low
    codes[j] = static_cast<int8_t>(code);
    e[i] = w[j] - (code - zero[g]) * scale[g];
    add_scaled(v + j + 1, R + i * size + i + 1, e[i], size - i - 1);
  }
}

// Rounds the columns [begin, end) of `count` rows and tells the columns behind them.
void round_block(Work& work, int64_t first, int64_t count, int64_t begin, int64_t end) {
  const int64_t size = end - begin, in = work.W.size(1);
  const Tensor R = work.R.narrow(0, begin, size).narrow(1, begin, size).contiguous();
  const Tensor errors = at::empty({count, size}, work.W.options());
  const int64_t step = work.grids_on_the_way ? std::min(work.scheme.group, size) : size;
  for (int64_t j = begin; j < end; j += step) {
    if (work.grids_on_the_way && j % work.scheme.group == 0) make_grid(work, first, count, j);
    const Columns columns{j, std::min(j + step, end), begin, end};
    for (int64_t r = 0; r < count; ++r) {
      round_row(work, first + r, columns, R.const_data_ptr<float>(), errors.data_ptr<float>() + r * size);
    }
  }
  if (end == in) return;
  Tensor behind = work.v.narrow(0, first, count).narrow(1, end, in - end);
  behind.addmm_(errors, work.R.narrow(0, begin, size).narrow(1, end, in - end));
}

// The end of the block that begins at a column. A group that makes its grid on the way begins with a block or
// lies within one, so that it finds all errors before it settled.
int64_t block_end(const Work& work, int64_t begin) {
  int64_t size = work.block;
  if (work.grids_on_the_way) {
    const int64_t group = work.scheme.group;
    size = group <= size ? size / group * group : std::min(size, group - begin % group);
  }
  return std::min(begin + size, work.W.size(1));
}

void round_rows(Work& work) {
  const int64_t out = work.W.size(0), pieces = (out + kRows - 1) / kRows;
  // A product outside of a parallel region would use all threads.
  std::optional<OneThread> one_thread;
  if (pieces == 1) one_thread.emplace();
  const at::ThreadLocalState state;  // whether gradients are recorded is known per thread
  at::parallel_for(0, pieces, 1, [&](int64_t from, int64_t to) {
    const at::ThreadLocalStateGuard guard(state);
    for (int64_t first = from * kRows; first < std::min(out, to * kRows); first += kRows) {
      const int64_t count = std::min(kRows, out - first);
      for (int64_t begin = 0; begin < work.W.size(1); begin = block_end(work, begin)) {
        round_block(work, first, count, begin, block_end(work, begin));
      }
    }
  });
}

// [1], [out, 1] or [out, groups] -> [out, scales] float32
Tensor for_rows(const Tensor& scale, int64_t out) {
  const int64_t scales = scale.dim() == 2 ? scale.size(1) : 1;
  return scale.to(at::kCPU, at::kFloat).expand({out, scales}).contiguous();
}

// Scales and zero points: those given, or made from W, or room for those that will be made on the way.
void set_grid(Work& work, const WeightGrid& grid, const Tensor& order) {
  const int64_t out = work.W.size(0), in = work.W.size(1);
  const bool grouped = work.scheme.granularity == Granularity::kGroup;
  const int64_t* original = order.const_data_ptr<int64_t>();
  for (int64_t j = 0; j < in; ++j) work.scale_of.push_back(grouped ? original[j] / work.scheme.group : 0);
  const int64_t scales = grouped ? (in + work.scheme.group - 1) / work.scheme.group : 1;
  work.scale = work.grids_on_the_way ? at::zeros({out, scales}, work.W.options()) : for_rows(grid.scale, out);
  work.zero = grid.zero.defined() ? for_rows(grid.zero, out) : at::zeros_like(work.scale);
}

}  // namespace

QuantizedTensor gptq(const Tensor& W, const Tensor& M, const WeightGrid& grid, const WeightScheme& scheme,
                     const GptqOptions& options) {
  TORCH_CHECK(W.dim() == 2 && M.dim() == 2 && M.size(0) == W.size(1) && M.size(1) == W.size(1),
              "gptq: W has shape ", W.sizes(), ", M ", M.sizes());
  TORCH_CHECK(options.block > 0 && options.damping >= 0, "gptq: block ", options.block, ", damping ",
              options.damping);
  const Tensor diagonal = M.cpu().diagonal();
  const Tensor live = at::where(diagonal == 0, 0, W.to(at::kCPU, at::kFloat));
  Work work;
  work.scheme = scheme;
  work.block = options.block;
  work.clip = options.clip.defined() ? options.clip.cpu() : options.clip;
  WeightGrid used = grid;
  if (!used.scale.defined()) {
    work.grids_on_the_way = scheme.granularity == Granularity::kGroup && !options.order_by_activation;
    if (!work.grids_on_the_way) used = weight_grid(live, scheme, work.clip);
  }
  const Tensor order = options.order_by_activation
                           ? at::argsort(diagonal, /*stable=*/true, /*dim=*/0, /*descending=*/true)
                           : at::arange(W.size(1));
  const Tensor ordered =
      options.order_by_activation ? M.cpu().index_select(0, order).index_select(1, order) : M.cpu();
  work.R = unit_factor(ordered, options.damping);
  work.W = live.index_select(1, order);
  work.v = work.W.clone();
  work.codes = at::empty(work.W.sizes(), work.W.options().dtype(at::kChar));
  set_grid(work, used, order);
  round_rows(work);
  if (work.grids_on_the_way) {
    used.scale = work.scale;
    if (!scheme.symmetric) used.zero = work.zero.to(at::kChar);
  }
  const Tensor codes = work.codes.index_select(1, order.argsort());
  const auto home = [&](const Tensor& t) { return t.defined() ? t.to(W.device()) : t; };
  return {home(codes), home(used.scale), home(used.zero), scheme};
}

}  // namespace ptq
