// Sizes of a Mamba-1 model, from tensor shapes, checked against the configuration.
#pragma once

#include <cstdint>
#include <string>

#include "ptq/model/weight.h"

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
  int64_t start_token = 0;
  bool tied = true;  // the head is the embedding; MambaModel finds out
  std::string
      embedding;  // name of the embedding tensor, which Hugging Face and state-spaces spell differently
};

// True if the tensors are a Mamba-1 language model's.
bool has_mamba_tensors(const WeightSource& source);

// Every size comes from a shape: they cannot be wrong. Throws Error if shapes disagree with each other, if
// the configuration states another number, or if it asks for what is not supported (LayerNorm, another
// activation).
MambaConfig read_mamba_config(const WeightSource& source);

// config.json in Hugging Face's form, for a source that has none or state-spaces' form.
Json hugging_face_config(const MambaConfig& config, const Json& source_config);

}  // namespace ptq
