#include "ptq/engine/decoder.h"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "ptq/base/memory.h"

namespace ptq {
namespace {

constexpr int64_t kTokensAtOnce = 512;

}  // namespace

Decoder::Decoder(const Model& model, int64_t batch, const DecoderOptions& options)
    : model_(model), batch_(batch), options_(options) {
  bool keeps = true;
  for (int64_t i = 0; i < model.num_blocks(); ++i) {
    std::unique_ptr<Block> block = model.load_block(i);
    states_.push_back(block->initial_state(batch, options.floats));
    if (!keeps) continue;
    block->seal(options.compute);
    blocks_.push_back(std::move(block));
    return_free_memory();  // what reading a block has taken lies between what stays
    const int64_t available = available_memory_bytes();
    keeps = available < 0 || available >= options.least_free_bytes;
    if (keeps) continue;
    blocks_.clear();
    spdlog::warn(
        "memory has no room for all of the {} blocks: they are read again for every step, which is slow",
        model.num_blocks());
  }
}

template <typename Use>
void Decoder::with_block(size_t index, const Use& use) const {
  if (!blocks_.empty()) return use(*blocks_[index]);
  const std::unique_ptr<Block> loaded = model_.load_block(static_cast<int64_t>(index));
  loaded->seal(options_.compute);
  use(*loaded);
}

Tensor Decoder::run_blocks(const Tensor& ids) {
  Tensor hidden = model_.embed(ids, past_);
  past_ += ids.size(1);
  for (size_t i = 0; i < states_.size(); ++i) {
    with_block(i, [&](const Block& block) {
      hidden = block.forward(hidden, &states_[i]);
      expect_finite(hidden, block.prefix(), "the block's output");
    });
  }
  return hidden;
}

Tensor Decoder::advance(const Tensor& ids) {
  // A long prompt goes through in pieces: what its tokens have in a block would be the peak of memory.
  if (past_ == 0) begin_text(options_.text_length == 0 ? ids.size(1) : options_.text_length);
  const int64_t length = ids.size(1), piece = blocks_.empty() ? length : std::min(length, kTokensAtOnce);
  Tensor hidden;
  for (int64_t begin = 0; begin < length; begin += piece)
    hidden = run_blocks(ids.slice(1, begin, std::min(length, begin + piece)));
  const Tensor logits = model_.logits(hidden.select(1, hidden.size(1) - 1));
  expect_finite(logits, "the head", "the logits");
  return logits;
}

void Decoder::begin_text(int64_t length) {
  for (BlockState& state : states_) {
    for (PartState& part : state.parts) part.text_length = length;
  }
}

void Decoder::restart() {
  past_ = 0;
  for (size_t i = 0; i < states_.size(); ++i)
    with_block(i, [&](const Block& block) { states_[i] = block.initial_state(batch_, options_.floats); });
}

}  // namespace ptq
