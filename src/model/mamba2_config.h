// Sizes of a Mamba-2 model, from tensor shapes and the configuration.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/layout.h"
#include "model/reading.h"

namespace ptq {

struct Mamba2Config {
  Mamba2Layout mixer;  // of the first block; the others differ in the prefix alone
  int64_t num_layers = 0;
  int64_t vocab_size = 0;
  double norm_eps = 1e-5;  // of every norm
  StartToken start_token;
  std::optional<bool> tied;  // whether the head is the embedding, as the configuration says or means
  std::string embedding;     // the tensor's name
  std::vector<std::string> warnings;
};

// True if the tensors are a Mamba-2 language model's, as far as names tell.
bool has_mamba2_tensors(const WeightSource& source);

// Reads a configuration in the words of Hugging Face's Mamba2ForCausalLM or of state-spaces' mamba_ssm.
// Throws Error if shapes disagree with each other, if the configuration states another number or does not
// say what shapes do not tell, or if it asks for what is not supported (LayerNorm, layers of attention, of
// Mamba-1 or Mamba-3, an MLP in the mixer, ...).
Mamba2Config read_mamba2_config(const WeightSource& source);

// config.json in Hugging Face's form: the source's, or made from `config`. For a model of state-spaces with
// what Hugging Face's class lacks (no gated norm, a gate after it, D a channel) the source's as it is.
Json hugging_face_config(const Mamba2Config& config, const Json& source_config);

}  // namespace ptq
