#include "ptq/engine/decoder.h"

#include "ptq/base/memory.h"

namespace ptq {

Decoder::Decoder(const Model& model, int64_t batch, CacheFloats floats)
    : model_(model), batch_(batch), floats_(floats) {
  const bool resident = keeps_resident(model);
  for (int64_t i = 0; i < model.num_blocks(); ++i) {
    std::unique_ptr<Block> block = model.load_block(i);
    states_.push_back(block->initial_state(batch, floats));
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

void Decoder::restart() {
  for (size_t i = 0; i < states_.size(); ++i) {
    std::unique_ptr<Block> loaded;
    if (blocks_.empty()) loaded = model_.load_block(static_cast<int64_t>(i));
    const Block& block = blocks_.empty() ? *loaded : *blocks_[i];
    states_[i] = block.initial_state(batch_, floats_);
  }
}

}  // namespace ptq
