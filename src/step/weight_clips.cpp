// A step set by the largest weight of a row wastes codes on it; a step set too small cuts it off. Which of
// the two costs more depends on what the row is multiplied with, so the error is weighed by the second moment
// of the layer's input: e M e^T is the mean square of the error that the row adds to its output. M has to be
// that of the activations as rounded, and whole: its diagonal alone chooses worse than a fixed factor when
// activations have 4 bits, because their rounding errors are spread over directions that the diagonal hides.
#include "ptq/step/weight_clips.h"

#include "ptq/ops/ops.h"

namespace ptq {
namespace {

constexpr int kClips = 9;
constexpr double kClipStep = 0.05;

// e M e^T for every row of e [out, in]: [out, 1]; with groups for every group: [out, groups].
Tensor output_error(const Tensor& e, const Tensor& M, const WeightScheme& scheme) {
  if (scheme.granularity != Granularity::kGroup) return (ops::linear(e, M) * e).sum(1, /*keepdim=*/true);
  std::vector<Tensor> errors;
  for (int64_t begin = 0; begin < e.size(1); begin += scheme.group) {
    const int64_t end = std::min(e.size(1), begin + scheme.group);
    const Tensor part = e.slice(1, begin, end);
    const Tensor block = M.slice(0, begin, end).slice(1, begin, end).contiguous();
    errors.push_back((ops::linear(part, block) * part).sum(1, /*keepdim=*/true));
  }
  return at::cat(errors, 1);
}

}  // namespace

Tensor choose_weight_clips(const Tensor& W, const Tensor& M, const WeightScheme& scheme) {
  if (scheme.granularity == Granularity::kTensor) return {};
  Tensor least, clips;
  for (int i = 0; i < kClips; ++i) {
    const double factor = 1 - i * kClipStep;
    const Tensor clip = at::full({1}, factor, W.options());
    const Tensor e = W - dequantize(round_to_nearest(W, scheme, clip));
    const Tensor error = output_error(e, M, scheme);
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

Tensor second_moment(const Tensor& x) {
  return ops::gram(x) / static_cast<double>(x.size(0));
}

}  // namespace ptq
