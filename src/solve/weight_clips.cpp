// A step set by the largest weight of a row wastes codes on it; a step set too small cuts it off. Which of
// the two costs more depends on what the row is multiplied with, so the error is weighed by the second moment
// of the layer's input: e M e^T is the mean square of the error that the row adds to its output. M is used
// whole: its diagonal alone chooses worse than a fixed factor when activations have 4 bits, because their
// rounding errors are spread over directions that the diagonal hides.
//
// M is symmetric, so of the blocks above and below its diagonal one of each pair is read, twice as large.
// Rows do not depend on each other: a piece of them stays in the second-level cache through the whole search,
// and pieces are shared among threads.
#include "ptq/solve/weight_clips.h"

#include <ATen/Parallel.h>
#include <ATen/ThreadLocalState.h>

#include <algorithm>
#include <vector>

#include "ptq/ops/ops.h"

namespace ptq {
namespace {

constexpr int kClips = 9;
constexpr double kClipStep = 0.05;
constexpr int64_t kRows = 128;   // of a piece
constexpr int64_t kBlock = 192;  // of M

// M as output_error() needs it.
struct Moment {
  // The blocks to multiply with, each [columns of the block, columns up to its end]; with groups those on the
  // diagonal.
  std::vector<Tensor> parts;
  bool grouped = false;
};

Moment split_moment(const Tensor& M, const WeightScheme& scheme) {
  Moment blocks;
  blocks.grouped = scheme.granularity == Granularity::kGroup;
  const int64_t in = M.size(0), size = blocks.grouped ? scheme.group : kBlock;
  for (int64_t begin = 0; begin < in; begin += size) {
    const int64_t end = std::min(in, begin + size);
    const Tensor rows = M.slice(0, begin, end);
    if (blocks.grouped) {
      blocks.parts.push_back(rows.slice(1, begin, end).contiguous());
      continue;
    }
    Tensor part = rows.slice(1, 0, end).clone(at::MemoryFormat::Contiguous);
    part.slice(1, 0, begin).mul_(2);
    blocks.parts.push_back(part);
  }
  return blocks;
}

// e M e^T for every row of e [rows, in]: [rows, 1]; with groups for every group: [rows, groups].
Tensor output_error(const Tensor& e, const Moment& M) {
  std::vector<Tensor> errors;
  int64_t begin = 0;
  for (const Tensor& block : M.parts) {
    const int64_t end = begin + block.size(0);
    const Tensor own = e.slice(1, begin, end);
    const Tensor product = ops::linear(M.grouped ? own : e.slice(1, 0, end), block);
    errors.push_back((product * own).sum(1, /*keepdim=*/true));
    begin = end;
  }
  const Tensor all = at::cat(errors, 1);
  return M.grouped ? all : all.sum(1, /*keepdim=*/true);
}

// The factors of some rows W [rows, in].
Tensor choose_clips(const Tensor& W, const Moment& M, const WeightScheme& scheme) {
  Tensor least, clips;
  for (int i = 0; i < kClips; ++i) {
    const double factor = 1 - i * kClipStep;
    const Tensor clip = at::full({1}, factor, W.options());
    const Tensor error = output_error(W - dequantize(round_to_nearest(W, scheme, clip)), M);
    if (!least.defined()) {
      least = error;
      clips = at::full_like(error, factor);
      continue;
    }
    const Tensor better = error < least;
    least = at::where(better, error, least);
    clips.masked_fill_(better, factor);
  }
  return clips;
}

}  // namespace

Tensor choose_weight_clips(const Tensor& W, const Tensor& M, const WeightScheme& scheme) {
  if (scheme.granularity == Granularity::kTensor) return {};
  const Moment blocks = split_moment(M, scheme);
  const int64_t out = W.size(0), pieces = (out + kRows - 1) / kRows;
  std::vector<Tensor> clips(static_cast<size_t>(pieces));
  const at::ThreadLocalState state;  // whether gradients are recorded is known per thread
  at::parallel_for(0, pieces, 1, [&](int64_t from, int64_t to) {
    const at::ThreadLocalStateGuard guard(state);
    for (int64_t i = from; i < to; ++i) {
      const Tensor rows = W.slice(0, i * kRows, std::min(out, (i + 1) * kRows));
      clips[static_cast<size_t>(i)] = choose_clips(rows, blocks, scheme);
    }
  });
  return at::cat(clips);
}

Tensor second_moment(const Tensor& x) {
  return ops::gram(x) / static_cast<double>(x.size(0));
}

}  // namespace ptq
