// Decoding: one token after another with a state.
#pragma once

#include <memory>
#include <vector>

#include "ptq/engine/sampling.h"
#include "ptq/model/model.h"

namespace ptq {

struct DecoderOptions {
  CacheFloats floats = CacheFloats::kFloat32;  // of keys and values that no site rounds
  Compute compute = {};
  int64_t least_free_bytes = int64_t{128} << 20;  // of memory, beside the blocks that are kept
  // How many tokens the texts will have, those to come included; 0: no more than the first call brings.
  int64_t text_length = 0;
};

// Holds the blocks of a model and their states for `batch` sequences. Where memory does not hold all of them
// none is kept, and they are read again for every step: slower by far, with the same results and a warning.
class Decoder {
 public:
  // `model` must outlive the decoder.
  Decoder(const Model& model, int64_t batch, const DecoderOptions& options = {});

  // ids [batch, length]: the next tokens. Returns the logits after the last of them, [batch, vocab].
  // Any split of a text into calls gives the same logits (up to the order of float additions). Throws Error,
  // naming the block or the head, where a value is NaN or infinite.
  Tensor advance(const Tensor& ids);
  // Forgets all tokens: the next ones begin other texts.
  void restart();

 private:
  Tensor run_blocks(const Tensor& ids);
  void begin_text(int64_t length);
  template <typename Use>
  void with_block(size_t index, const Use& use) const;

  const Model& model_;
  int64_t batch_;
  DecoderOptions options_;
  std::vector<std::unique_ptr<Block>> blocks_;  // empty: read again for every step
  std::vector<BlockState> states_;
  int64_t past_ = 0;  // tokens seen
};

// Of the float32 weights of a model that writes a text: for every token of it all are read.
inline constexpr int64_t kWriterBytes = int64_t{1} << 30;

// `rows` texts of `length` tokens that the model writes itself, each beginning with its start token;
// temperature 1. [rows, length] int64. Cost: `length` decoding steps of `rows` sequences. `on_step` is called
// after each with the number of positions done.
template <typename OnStep>
Tensor write_texts(const Model& model, int64_t rows, int64_t length, uint64_t seed, const OnStep& on_step) {
  Decoder decoder(model, rows, {.text_length = length});
  Tensor texts = at::full({rows, length}, model.start_token(), at::kLong);
  for (int64_t position = 1; position < length; ++position) {
    const Tensor logits = decoder.advance(texts.slice(1, position - 1, position));
    texts.slice(1, position, position + 1).copy_(sample(logits, 1.0, seed, position));
    on_step(position + 1);
  }
  return texts;
}

}  // namespace ptq
