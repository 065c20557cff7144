#include "ptq/engine/sampling.h"

#include <algorithm>
#include <limits>
#include <tuple>

namespace ptq {
namespace {

constexpr double kLeftOut = -std::numeric_limits<double>::infinity();

// SplitMix64 (Steele, Lea, Flood 2014): one well-mixed number for each input.
uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

// Uniform in [0, 1).
double uniform(uint64_t seed, int64_t row, int64_t position) {
  const uint64_t bits = mix(mix(mix(seed) ^ static_cast<uint64_t>(row)) ^ static_cast<uint64_t>(position));
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

// scaled [batch, vocab], draws [batch, 1] float64 -> ids [batch, 1].
Tensor draw(const Tensor& scaled, const Tensor& draws) {
  const Tensor cumulative = at::softmax(scaled, 1, at::kDouble).cumsum(1);  // [batch, vocab]
  // Scaled by the last sum, which rounding keeps from being exactly 1.
  const Tensor last = cumulative.slice(1, cumulative.size(1) - 1);
  const Tensor ids =
      at::searchsorted(cumulative, draws.to(scaled.device()) * last, /*out_int32=*/false, /*right=*/true);
  return ids.clamp_max(scaled.size(1) - 1).cpu();
}

Tensor penalized(const Tensor& logits, at::IntArrayRef seen, double penalty) {
  if (penalty == 1 || seen.empty()) return logits;
  const Tensor ids = at::tensor(seen, at::kLong).to(logits.device());
  const Tensor values = logits.index_select(0, ids);
  return logits.index_copy(0, ids, at::where(values < 0, values * penalty, values / penalty));
}

Tensor keep_top_k(const Tensor& scaled, int64_t k) {
  if (k <= 0 || k >= scaled.size(0)) return scaled;
  const Tensor least = std::get<0>(scaled.topk(k)).min();
  return scaled.masked_fill(scaled < least, kLeftOut);
}

Tensor keep_top_p(const Tensor& scaled, double top_p) {
  if (top_p >= 1) return scaled;
  const Tensor p = at::softmax(scaled, 0, at::kDouble);
  const auto [sorted, order] = p.sort(/*stable=*/true, /*dim=*/0, /*descending=*/true);
  const Tensor before = sorted.cumsum(0) - sorted;
  return scaled.index_fill(0, order.masked_select(before >= top_p), kLeftOut);
}

Tensor keep_min_p(const Tensor& scaled, double min_p) {
  if (min_p <= 0) return scaled;
  const Tensor p = at::softmax(scaled, 0, at::kDouble);
  return scaled.masked_fill(p < p.max() * min_p, kLeftOut);
}

}  // namespace

Tensor sample(const Tensor& logits, double temperature, uint64_t seed, int64_t position) {
  if (temperature == 0) return logits.argmax(1, /*keepdim=*/true).cpu();
  Tensor draws = at::empty({logits.size(0), 1}, at::kDouble);
  for (int64_t row = 0; row < logits.size(0); ++row) draws[row][0] = uniform(seed, row, position);
  return draw(logits / temperature, draws);
}

Tensor filtered_logits(const Tensor& logits, at::IntArrayRef seen, const SamplingOptions& options) {
  const Tensor scaled = penalized(logits, seen, options.repetition_penalty) / options.temperature;
  return keep_min_p(keep_top_p(keep_top_k(scaled, options.top_k), options.top_p), options.min_p);
}

int64_t sample_one(const Tensor& logits, at::IntArrayRef seen, const SamplingOptions& options, int64_t row,
                   int64_t position) {
  if (options.temperature == 0)
    return penalized(logits, seen, options.repetition_penalty).argmax().item<int64_t>();
  const Tensor filtered = filtered_logits(logits, seen, options).unsqueeze(0);
  const Tensor draws = at::full({1, 1}, uniform(options.seed, row, position), at::kDouble);
  return draw(filtered, draws).item<int64_t>();
}

}  // namespace ptq
