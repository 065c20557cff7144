// bench_gptq [hidden intermediate key_value]: CPU seconds of GPTQ for one transformer block, on one thread;
// the default is a block of SmolLM2-135M.
//
// Clips are chosen by rounding with each of kGptqClips factors. The baseline is to round so many times, one
// factor after another; the best of them is also compared with what the search keeps.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdio>

#include "bench_block.h"
#include "ptq/codec/quantized_tensor.h"
#include "ptq/solve/gptq.h"

namespace {

using ptq::cpu_seconds;
using ptq::Tensor;

// The linears of a site are rounded together.
struct Layer {
  const char* name;
  int64_t out, in;
};

struct Seconds {
  double once = 0, in_turn = 0, searched = 0;
};

// e M e^T of each row, with GPTQ's damping. [out]
Tensor cost(const Tensor& W, const ptq::QuantizedTensor& rounded, const Tensor& M, double damping) {
  const Tensor e = (W - ptq::dequantize(rounded)).to(at::kDouble);
  return (e.matmul(M) * e).sum(1) + damping * M.diagonal().mean() * e.square().sum(1);
}

Seconds time_layer(const Layer& layer) {
  const Tensor M = ptq::second_moment(layer.in), W = at::randn({layer.out, layer.in}) * 0.02;
  ptq::WeightScheme scheme;
  scheme.bits = 4;
  scheme.granularity = ptq::Granularity::kChannel;
  ptq::GptqOptions options;
  Seconds seconds;
  Tensor least;
  for (int i = 0; i < ptq::kGptqClips; ++i) {
    options.clip = at::full({1}, 1 - 0.05 * i);
    const double begin = cpu_seconds();
    const ptq::QuantizedTensor rounded = ptq::gptq(W, M, {}, scheme, options);
    seconds.in_turn += cpu_seconds() - begin;
    if (i == 0) seconds.once = seconds.in_turn;
    const Tensor leaves = cost(W, rounded, M, options.damping);
    least = i == 0 ? leaves : at::minimum(least, leaves);
  }
  options.clip = Tensor();
  options.search_clips = true;
  const double begin = cpu_seconds();
  const ptq::QuantizedTensor kept = ptq::gptq(W, M, {}, scheme, options);
  seconds.searched = cpu_seconds() - begin;
  std::printf(
      "%-8s [%lld, %lld]  one factor %.3f s, %d in turn %.3f s, searched %.3f s; leaves %.6f of theirs\n",
      layer.name, static_cast<long long>(layer.out), static_cast<long long>(layer.in), seconds.once,
      ptq::kGptqClips, seconds.in_turn, seconds.searched,
      (cost(W, kept, M, options.damping).sum() / least.sum()).item<double>());
  return seconds;
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t hidden = ptq::argument(argc, argv, 1, 576), inner = ptq::argument(argc, argv, 2, 1536);
  const int64_t kv = ptq::argument(argc, argv, 3, 192);
  if (argc > 4 || std::min({hidden, inner, kv}) < 1) {
    std::fputs("usage: bench_gptq [HIDDEN [INNER [KEYS_AND_VALUES]]]\n", stderr);
    return 2;
  }
  const at::InferenceMode inference;
  at::set_num_threads(1);
  at::manual_seed(1);
  Seconds block;
  for (const Layer& layer : {Layer{"q k v", hidden + 2 * kv, hidden}, Layer{"o", hidden, hidden},
                             Layer{"gate up", 2 * inner, hidden}, Layer{"down", hidden, inner}}) {
    const Seconds seconds = time_layer(layer);
    block.once += seconds.once;
    block.in_turn += seconds.in_turn;
    block.searched += seconds.searched;
  }
  std::printf("block: one factor %.3f s, %d in turn %.3f s, searched %.3f s, ratio %.2f\n", block.once,
              ptq::kGptqClips, block.in_turn, block.searched, block.in_turn / block.searched);
  return 0;
}
