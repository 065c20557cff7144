#include "ptq/step/clip_search.h"

#include <algorithm>

#include "ptq/calibration/stream.h"

namespace ptq {
namespace {

constexpr int kHighestCode = 127;

}  // namespace

double relative_output_error(const Block& block, const Tensor& inputs, const Tensor& outputs) {
  double noise = 0;
  double signal = 0;
  for_each_batch(inputs.size(0), inputs.size(1), [&](int64_t begin, int64_t end) {
    const Tensor x = inputs.slice(0, begin, end);
    const Tensor y = outputs.slice(0, begin, end);
    // Row sums, then one cumulative sum: the same bits for any number of threads.
    const auto energy = [](const Tensor& t) {
      return t.square().sum(-1, /*keepdim=*/false, at::kDouble).flatten().cpu().cumsum(0)[-1].item<double>();
    };
    noise += energy(block.forward(x) - y);
    signal += energy(y - x);
  });
  return noise / std::max(signal, 1e-30);
}

std::map<std::string, size_t> search_clips(Block& block,
                                           const std::vector<std::pair<std::string, ClipLadder>>& ladders,
                                           const Tensor& inputs, const Tensor& outputs) {
  std::map<std::string, size_t> chosen;
  double best = relative_output_error(block, inputs, outputs);
  for (const auto& [name, ladder] : ladders) {
    Site& site = block.site(name);
    const ActivationQuantizer start = site.quantizer;
    ActivationQuantizer kept = start;
    chosen[name] = 0;
    for (size_t i = 1; i < ladder.size(); ++i) {
      site.quantizer = ActivationQuantizer::fixed(ladder[i].amax / kHighestCode, start.bits);
      const double error = relative_output_error(block, inputs, outputs);
      if (error < best) {
        best = error;
        kept = site.quantizer;
        chosen[name] = i;
      }
    }
    site.quantizer = kept;
  }
  return chosen;
}

}  // namespace ptq
