#include "ptq/engine/decoder.h"

#include <limits>

#include "ptq/base/memory.h"

namespace ptq {
namespace {

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

}  // namespace

Decoder::Decoder(const Model& model, int64_t batch) : model_(model) {
  const bool resident = keeps_resident(model);
  for (int64_t i = 0; i < model.num_blocks(); ++i) {
    std::unique_ptr<Block> block = model.load_block(i);
    states_.push_back(block->initial_state(batch));
    if (resident) {
      block->seal();
      blocks_.push_back(std::move(block));
    }
    return_free_memory();  // what reading a block has taken lies between what stays
  }
}

Tensor Decoder::advance(const Tensor& ids) {
  Tensor hidden = model_.embed(ids);
  for (size_t i = 0; i < states_.size(); ++i) {
    std::unique_ptr<Block> loaded;
    if (blocks_.empty()) loaded = model_.load_block(static_cast<int64_t>(i));
    const Block& block = blocks_.empty() ? *loaded : *blocks_[i];
    hidden = block.forward(hidden, &states_[i]);
    expect_finite(hidden, block.prefix(), "the block's output");
  }
  const Tensor logits = model_.logits(hidden.select(1, hidden.size(1) - 1));
  expect_finite(logits, "the head", "the logits");
  return logits;
}

Tensor sample(const Tensor& logits, double temperature, uint64_t seed, int64_t position) {
  if (temperature == 0) return logits.argmax(1, /*keepdim=*/true).cpu();
  const Tensor cumulative = at::softmax(logits / temperature, 1, at::kDouble).cumsum(1);  // [batch, vocab]
  Tensor draws = at::empty({logits.size(0), 1}, at::kDouble);
  for (int64_t row = 0; row < logits.size(0); ++row) draws[row][0] = uniform(seed, row, position);
  // Scaled by the last sum, which rounding keeps from being exactly 1.
  const Tensor last = cumulative.slice(1, cumulative.size(1) - 1);
  const Tensor ids =
      at::searchsorted(cumulative, draws.to(logits.device()) * last, /*out_int32=*/false, /*right=*/true);
  return ids.clamp_max(logits.size(1) - 1).cpu();
}

}  // namespace ptq
