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
// Clips. A row's step may be set by less than its largest weight. The sum above tells what a factor costs
// when all columns are settled, so the row is rounded with each and the best is kept. Rounding to nearest is
// no guide to it: there factors differ by which errors happen to cancel, and GPTQ cancels them anyway. A
// group that makes its grid on the way chooses its own factor by its own part of the sum.
//
// Rows do not depend on each other: they are shared among threads in pieces of fixed size. A piece is held
// with its columns as rows, so that the weights of one column, which do not depend on each other either, lie
// together: the kernel round_columns settles a block of columns on whole vectors of them, and the columns
// behind the block get its errors in one matrix product. Decompositions run on one thread, because their last
// bits depend on the number.
//
// Memory: M twice in float64 while it is decomposed, then R in float32, W and what it becomes, and the
// pieces.
//
// Differs from the authors' code in the form above; the mean of the diagonal that the damping is measured by
// is that of M as it is, without ones for dead channels.
#include "ptq/solve/gptq.h"

#include <ATen/Parallel.h>
#include <ATen/ThreadLocalState.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <vector>

#include "ptq/base/error.h"
#include "ptq/kernels/kernels.h"
#include "ptq/ops/one_thread.h"

namespace ptq {
namespace {

constexpr int64_t kRows = kGptqRows;   // weights of a column in one piece of work
constexpr int64_t kSearchedRows = 32;  // the same where whole rows are rounded with every clip factor
constexpr double kClipStep = 0.05;

// The damped M = R D R^T.
struct Factor {
  Tensor R;  // [in, in] float32; zeros below the diagonal
  Tensor D;  // [in] float32
};

Factor unit_factor(const Tensor& M, double damping) {
  constexpr int kAttempts = 3;
  const OneThread one_thread;
  Tensor reversed = M.to(at::kDouble).flip({0, 1});
  Tensor diagonal = reversed.diagonal();
  const double mean = diagonal.mean().item<double>();
  diagonal.masked_fill_(diagonal == 0, 1);  // a dead channel meets no other: any number does
  double added = 0;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    diagonal.add_(damping * mean - added);
    added = damping * mean;
    auto [L, info] = at::linalg_cholesky_ex(reversed);
    const Tensor pivots = L.diagonal().clone();
    if (info.item<int>() == 0 && pivots.isfinite().all().item<bool>()) {
      reversed = diagonal = Tensor();  // before the copies are made
      L = L.div_(pivots).to(at::kFloat);
      return {L.flip({0, 1}).contiguous(), pivots.square().flip({0}).to(at::kFloat)};
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
  Tensor original;  // [out, in] float32, in the order of the layer
  Tensor W;         // [out, in] float32
  Factor factor;
  Tensor codes;                   // [out, in] int8
  Tensor scale;                   // [out, scales] float32
  Tensor zero;                    // [out, scales] float32
  std::vector<int64_t> scale_of;  // [in] the column of `scale`
  WeightScheme scheme;
  int64_t block = 0;
  bool grids_on_the_way = false;
  bool search_clips = false;
  Tensor clip;  // if it is not searched

  bool makes_grids() const { return grids_on_the_way || search_clips; }
};

// Some rows of the work, transposed: [columns, rows] and [scales, rows].
struct Piece {
  int64_t first, rows;
  int64_t begin;  // the first of its columns
  Tensor w;
  Tensor v;  // what a column should be, given the errors before it
  Tensor codes;
  Tensor scale, divisor, zero;
};

// Groups of zeros may have a scale of 0; their weights become 0.
Tensor divisor_of(const Tensor& scale) {
  return scale.masked_fill(scale == 0, std::numeric_limits<float>::infinity());
}

// [1], [out, 1] or [out, groups] -> [out, scales] float32
Tensor for_rows(const Tensor& scale, int64_t out) {
  const int64_t scales = scale.dim() == 2 ? scale.size(1) : 1;
  return scale.to(at::kCPU, at::kFloat).expand({out, scales}).contiguous();
}

Piece take_rows(const Work& work, int64_t first, int64_t rows) {
  const auto turned = [&](const Tensor& t) { return t.narrow(0, first, rows).t().contiguous(); };
  Piece piece{first, rows, 0, turned(work.W), {}, {}, turned(work.scale), {}, turned(work.zero)};
  piece.v = piece.w.clone();
  piece.codes = at::empty_like(piece.w);
  piece.divisor = divisor_of(piece.scale);
  return piece;
}

// Gives a piece the grid of the columns that begin at `begin`: of a group, or of the whole rows.
void set_grid(Piece& piece, const Work& work, int64_t begin, const WeightGrid& grid) {
  const int64_t scales = grid.scale.size(1);
  const int64_t first = work.grids_on_the_way ? work.scale_of[static_cast<size_t>(begin)] : 0;
  const auto own = [&](const Tensor& t) { return t.narrow(0, first, scales); };
  own(piece.scale).copy_(grid.scale.t());
  own(piece.divisor).copy_(divisor_of(grid.scale).t());
  if (grid.zero.defined()) own(piece.zero).copy_(grid.zero.t());
}

// The weights that make a piece's grid for the columns [begin, end): [rows, columns] in the layer's order.
// Those of a group that is reached are what would be best if rounding ended there: with v as it stands and no
// error made behind, v' - w = (v - w) R^-1.
Tensor grid_weights(const Work& work, const Piece& piece, int64_t begin, int64_t end) {
  if (!work.grids_on_the_way) return work.original.narrow(0, piece.first, piece.rows);
  const int64_t width = end - begin;
  const Tensor w = piece.w.narrow(0, begin, width);
  const Tensor R = work.factor.R.narrow(0, begin, width).narrow(1, begin, width);
  const Tensor moved =
      at::linalg_solve_triangular(R.t(), piece.v.narrow(0, begin, width) - w, /*upper=*/false, /*left=*/true,
                                  /*unitriangular=*/true);
  return (w + moved).t().contiguous();
}

// A clip factor for each row [rows], as weight_grid() takes it.
Tensor clip_of_scales(const Work& work, const Tensor& clip) {
  const int64_t scales = work.grids_on_the_way ? 1 : work.scale.size(1);
  return clip.unsqueeze(1).expand({clip.size(0), scales});
}

// Rounds the columns [begin, end) on the piece's grid, block by block, of which each tells the later ones
// before `end`. Returns the errors w - q [columns, rows].
Tensor round_columns(const Work& work, Piece& piece, int64_t begin, int64_t end) {
  const int64_t in = work.W.size(1);
  const Tensor errors = at::empty({end - begin, piece.rows}, piece.w.options());
  for (int64_t from = begin; from < end; from += work.block) {
    const int64_t size = std::min(work.block, end - from), behind = end - from - size;
    const auto column = [&](const Tensor& t) {
      return t.data_ptr<float>() + (from - piece.begin) * piece.rows;
    };
    const Tensor block_errors = errors.narrow(0, from - begin, size);
    kernels::run(kernels::RoundColumns{.w = column(piece.w),
                                       .v = column(piece.v),
                                       .R = work.factor.R.const_data_ptr<float>() + from * in + from,
                                       .scale = piece.scale.const_data_ptr<float>(),
                                       .divisor = piece.divisor.const_data_ptr<float>(),
                                       .zero = piece.zero.const_data_ptr<float>(),
                                       .grid = work.scale_of.data() + from,
                                       .codes = column(piece.codes),
                                       .error = block_errors.data_ptr<float>(),
                                       .R_stride = in,
                                       .columns = size,
                                       .rows = piece.rows,
                                       .low = static_cast<float>(work.scheme.low()),
                                       .high = static_cast<float>(work.scheme.high())});
    if (behind == 0) continue;
    piece.v.narrow(0, from + size - piece.begin, behind)
        .addmm_(work.factor.R.narrow(0, from, size).narrow(1, from + size, behind).t(), block_errors);
  }
  return errors;
}

// The columns [begin, end) of a piece, `times` times side by side: [columns, times rows].
Piece repeated(const Piece& piece, int64_t begin, int64_t end, int64_t times) {
  const auto side_by_side = [&](const Tensor& t) { return t.repeat({1, times}); };
  const auto columns = [&](const Tensor& t) { return side_by_side(t.narrow(0, begin, end - begin)); };
  Piece wide{piece.first, times * piece.rows, begin, columns(piece.w), columns(piece.v), {}, {}, {}, {}};
  wide.codes = at::empty_like(wide.w);
  wide.scale = side_by_side(piece.scale);
  wide.divisor = side_by_side(piece.divisor);
  wide.zero = side_by_side(piece.zero);
  return wide;
}

// The same with the clip factor that costs each row least. What a column misses is v - q = (v - w) + e. The
// factors are tried side by side, so that each block of R is read once for all of them.
Tensor round_columns_with_best_clip(const Work& work, Piece& piece, int64_t begin, int64_t end) {
  const Tensor clips = (1 - at::arange(kGptqClips, at::kDouble) * kClipStep).to(at::kFloat);
  const Tensor weights = grid_weights(work, piece, begin, end).repeat({kGptqClips, 1});
  Piece wide = repeated(piece, begin, end, kGptqClips);
  set_grid(wide, work, begin,
           weight_grid(weights, work.scheme, clip_of_scales(work, clips.repeat_interleave(piece.rows))));
  const Tensor errors = round_columns(work, wide, begin, end);
  const Tensor D = work.factor.D.narrow(0, begin, end - begin).unsqueeze(1);
  const Tensor missed = wide.v.sub_(wide.w).add_(errors);
  const Tensor cost = missed.square_().mul_(D).sum(0).view({kGptqClips, piece.rows});
  // min() gives the first of equal ones.
  const Tensor best = std::get<1>(cost.min(0)) * piece.rows + at::arange(piece.rows);
  const auto kept = [&](const Tensor& t) { return t.index_select(1, best); };
  piece.codes.narrow(0, begin, end - begin).copy_(kept(wide.codes));
  piece.scale = kept(wide.scale);
  piece.divisor = kept(wide.divisor);
  piece.zero = kept(wide.zero);
  return kept(errors);
}

// Gives a group that is reached its grid, with the clip that is not searched.
void make_grid(const Work& work, Piece& piece, int64_t begin, int64_t end) {
  Tensor clip = work.clip;
  if (clip.defined() && clip.numel() > 1)
    clip = clip.narrow(0, piece.first, piece.rows).narrow(1, begin / work.scheme.group, 1);
  set_grid(piece, work, begin, weight_grid(grid_weights(work, piece, begin, end), work.scheme, clip));
}

void round_piece(const Work& work, Piece& piece) {
  const int64_t in = work.W.size(1), width = work.grids_on_the_way ? work.scheme.group : in;
  for (int64_t begin = 0; begin < in; begin += width) {
    const int64_t end = std::min(in, begin + width);
    if (work.grids_on_the_way && !work.search_clips) make_grid(work, piece, begin, end);
    const Tensor errors = work.search_clips ? round_columns_with_best_clip(work, piece, begin, end)
                                            : round_columns(work, piece, begin, end);
    if (end == in) return;
    piece.v.narrow(0, end, in - end)
        .addmm_(work.factor.R.narrow(0, begin, end - begin).narrow(1, end, in - end).t(), errors);
  }
}

void round_rows(Work& work) {
  const bool wide = work.search_clips && !work.grids_on_the_way;
  const int64_t out = work.W.size(0), most = wide ? kSearchedRows : kRows;
  const int64_t pieces = (out + most - 1) / most;
  // A product outside of a parallel region would use all threads.
  std::optional<OneThread> one_thread;
  if (pieces == 1) one_thread.emplace();
  const at::ThreadLocalState state;  // whether gradients are recorded is known per thread
  at::parallel_for(0, pieces, 1, [&](int64_t from, int64_t to) {
    const at::ThreadLocalStateGuard guard(state);
    for (int64_t i = from; i < to; ++i) {
      Piece piece = take_rows(work, i * most, std::min(most, out - i * most));
      round_piece(work, piece);
      const auto put = [&](const Tensor& all, const Tensor& part) {
        all.narrow(0, piece.first, piece.rows).copy_(part.t());
      };
      put(work.codes, piece.codes);
      if (!work.makes_grids()) continue;
      put(work.scale, piece.scale);
      put(work.zero, piece.zero);
    }
  });
}

// Scales and zero points: those given, or made from W, or room for those that pieces make.
void prepare_grid(Work& work, const WeightGrid& grid, const Tensor& order) {
  const int64_t out = work.W.size(0), in = work.W.size(1);
  const bool grouped = work.scheme.granularity == Granularity::kGroup;
  const int64_t* column_of = order.const_data_ptr<int64_t>();
  for (int64_t j = 0; j < in; ++j) work.scale_of.push_back(grouped ? column_of[j] / work.scheme.group : 0);
  const int64_t scales = grouped ? (in + work.scheme.group - 1) / work.scheme.group : 1;
  work.scale = grid.scale.defined() ? for_rows(grid.scale, out) : at::zeros({out, scales}, work.W.options());
  work.zero = grid.zero.defined() ? for_rows(grid.zero, out) : at::zeros_like(work.scale);
}

}  // namespace

QuantizedTensor gptq(const Tensor& W, const Tensor& M, const WeightGrid& grid, const WeightScheme& scheme,
                     const GptqOptions& options) {
  TORCH_CHECK(W.dim() == 2 && M.dim() == 2 && M.size(0) == W.size(1) && M.size(1) == W.size(1),
              "gptq: W has shape ", W.sizes(), ", M ", M.sizes());
  TORCH_CHECK(options.block > 0 && options.damping >= 0, "gptq: block ", options.block, ", damping ",
              options.damping);
  TORCH_CHECK(!options.search_clips || scheme.granularity != Granularity::kTensor,
              "gptq: clips are searched for rows and groups");
  const Tensor diagonal = M.cpu().diagonal();
  const Tensor live = at::where(diagonal == 0, 0, W.to(at::kCPU, at::kFloat));
  const Tensor order = options.order_by_activation
                           ? at::argsort(diagonal, /*stable=*/true, /*dim=*/0, /*descending=*/true)
                           : at::arange(W.size(1));
  const Tensor ordered =
      options.order_by_activation ? M.cpu().index_select(0, order).index_select(1, order) : M.cpu();
  WeightGrid used = grid;
  Work work;
  work.scheme = scheme;
  work.block = options.block;
  work.factor = unit_factor(ordered, options.damping);
  work.clip = options.clip.defined() ? options.clip.cpu() : options.clip;
  if (!used.scale.defined()) {
    work.search_clips = options.search_clips;
    work.grids_on_the_way = scheme.granularity == Granularity::kGroup && !options.order_by_activation;
    if (!work.makes_grids()) used = weight_grid(live, scheme, work.clip);
  }
  work.original = live;
  work.W = live.index_select(1, order);
  work.codes = at::empty(work.W.sizes(), work.W.options().dtype(at::kChar));
  prepare_grid(work, used, order);
  round_rows(work);
  if (work.makes_grids()) {
    used.scale = work.scale;
    if (!scheme.symmetric) used.zero = work.zero.to(at::kChar);
  }
  const Tensor codes = work.codes.index_select(1, order.argsort());
  const auto home = [&](const Tensor& t) { return t.defined() ? t.to(W.device()) : t; };
  return {home(codes), home(used.scale), home(used.zero), scheme};
}

int64_t gptq_bytes(int64_t out, int64_t in, const GptqOptions& options, int threads) {
  constexpr int64_t kOfPiece = 6;  // w, v, codes and errors; twice what makes a grid
  constexpr auto kFloat = static_cast<int64_t>(sizeof(float)), kDouble = static_cast<int64_t>(sizeof(double));
  const int64_t columns = options.search_clips ? kGptqClips * kSearchedRows : kRows;
  const int64_t pieces = threads * kOfPiece * columns * in * kFloat;
  const int64_t ordered = options.order_by_activation ? in * in * kDouble : 0;
  const int64_t factoring = 2 * in * in * kDouble + 2 * out * in * kFloat;
  const int64_t rounding = in * in * kFloat + out * in * (4 * kFloat + 2) + pieces;
  return ordered + std::max(factoring, rounding);
}

}  // namespace ptq
