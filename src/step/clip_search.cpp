// Clips by what they cost.
//
// A tighter clip makes every code finer and cuts a few values off: which of the two matters depends on what
// the site feeds. Percentiles and local errors guess; the sublayer's own output knows. Costs are kept low by
// few windows (the error is a mean over thousands of outputs, and two candidates are compared on the same
// ones) and by stopping where a site gets no better. The error over the clip has one minimum, blurred by
// which values happen to lie next to a code's edge, so one candidate that is no better is forgiven: stopping
// at the first costs 0.1 % of perplexity on a small model. Quamba (arXiv 2410.13229) clips one site at one
// percentile.
#include "ptq/step/clip_search.h"

#include <algorithm>

#include "ptq/calibration/stream.h"

namespace ptq {
namespace {

constexpr int kPatience = 2;  // candidates that are no better before a descending ladder is left

}  // namespace

double relative_output_error(const Sublayer& sublayer, const Tensor& inputs, const Tensor& outputs) {
  double noise = 0;
  double signal = 0;
  for_each_batch(inputs.size(0), inputs.size(1), [&](int64_t begin, int64_t end) {
    const Tensor x = inputs.slice(0, begin, end);
    const Tensor y = outputs.slice(0, begin, end);
    // Row sums, then one cumulative sum: the same bits for any number of threads.
    const auto energy = [](const Tensor& t) {
      return t.square().sum(-1, /*keepdim=*/false, at::kDouble).flatten().cpu().cumsum(0)[-1].item<double>();
    };
    noise += energy(sublayer.forward(x) - y);
    signal += energy(y - x);
  });
  return noise / std::max(signal, 1e-30);
}

void search_clips(Sublayer& sublayer, const std::vector<ClipLadder>& ladders, const Tensor& inputs,
                  const Tensor& outputs) {
  sublayer.prepare();  // for many forwards
  double best = relative_output_error(sublayer, inputs, outputs);
  for (const ClipLadder& ladder : ladders) {
    Site& site = sublayer.site(ladder.site);
    ActivationQuantizer kept = site.quantizer;
    int failures = 0;
    for (const ActivationQuantizer& candidate : ladder.candidates) {
      if (ladder.descending && failures == kPatience) break;
      site.quantizer = candidate;
      const double error = relative_output_error(sublayer, inputs, outputs);
      if (error < best) {
        best = error;
        kept = candidate;
        failures = 0;
      } else {
        ++failures;
      }
    }
    site.quantizer = kept;
  }
}

}  // namespace ptq
