// Decoding: one token after another with a state.
#pragma once

#include <memory>
#include <vector>

#include "ptq/engine/sampling.h"
#include "ptq/model/model.h"

namespace ptq {

// Holds the blocks of a model and their states for `batch` sequences. Blocks are kept in memory if all of
// them take at most kResidentBytes as float32, and read again for every step otherwise: slower, but memory
// stays bounded.
class Decoder {
 public:
  static constexpr int64_t kResidentBytes = int64_t{1} << 30;

  // Whether the blocks are kept.
  static bool keeps_resident(const Model& model) {
    return model.num_parameters() * static_cast<int64_t>(sizeof(float)) <= kResidentBytes;
  }

  // `model` must outlive the decoder.
  Decoder(const Model& model, int64_t batch, CacheFloats floats = CacheFloats::kFloat32);

  // ids [batch, length]: the next tokens. Returns the logits after the last of them, [batch, vocab].
  // Any split of a text into calls gives the same logits (up to the order of float additions). Throws Error,
  // naming the block or the head, where a value is NaN or infinite.
  Tensor advance(const Tensor& ids);
  // Forgets all tokens: the next ones begin other texts.
  void restart();

 private:
  const Model& model_;
  int64_t batch_;
  CacheFloats floats_;
  std::vector<std::unique_ptr<Block>> blocks_;  // empty: read again for every step
  std::vector<BlockState> states_;
};

// `rows` texts of `length` tokens that the model writes itself, each beginning with its start token;
// temperature 1. [rows, length] int64. Cost: `length` decoding steps of `rows` sequences. `on_step` is called
// after each with the number of positions done.
template <typename OnStep>
Tensor write_texts(const Model& model, int64_t rows, int64_t length, uint64_t seed, const OnStep& on_step) {
  Decoder decoder(model, rows);
  Tensor texts = at::full({rows, length}, model.start_token(), at::kLong);
  for (int64_t position = 1; position < length; ++position) {
    const Tensor logits = decoder.advance(texts.slice(1, position - 1, position));
    texts.slice(1, position, position + 1).copy_(sample(logits, 1.0, seed, position));
    on_step(position + 1);
  }
  return texts;
}

}  // namespace ptq
