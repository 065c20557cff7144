// Sizes of a Mamba-1 model, from tensor shapes, checked against the configuration.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/reading.h"

namespace ptq {

struct MambaConfig {
  int64_t d_model = 0;  // d
  int64_t d_inner = 0;  // E
  int64_t d_state = 0;  // N
  int64_t d_conv = 0;   // W
  int64_t dt_rank = 0;  // R
  int64_t num_layers = 0;
  int64_t vocab_size = 0;
  double norm_eps = 1e-5;
  bool linear_bias = false;  // of in_proj and out_proj
  bool conv_bias = true;
  StartToken start_token;
  std::optional<bool> tied;  // whether the head is the embedding, as the configuration says or means
  std::string embedding;     // Hugging Face and state-spaces spell its name differently
  std::vector<std::string> warnings;
};

// True if the tensors are a Mamba-1 language model's.
bool has_mamba_tensors(const WeightSource& source);

// Every size comes from a shape: they cannot be wrong. Throws Error if shapes disagree with each other, if
// the configuration states another number, or if it asks for what is not supported (LayerNorm, another
// activation, layers of attention or of Mamba-2, ...).
MambaConfig read_mamba_config(const WeightSource& source);

// config.json in Hugging Face's form: the source's, or made from `config` if it has none or state-spaces'
// form.
Json hugging_face_config(const MambaConfig& config, const Json& source_config);

}  // namespace ptq
