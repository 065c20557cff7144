// Sizes of a Llama-like transformer: from tensor shapes where they tell, from the configuration else.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/reading.h"
#include "model/rope.h"

namespace ptq {

struct LlamaConfig {
  int64_t hidden = 0;        // d
  int64_t intermediate = 0;  // F
  int64_t heads = 0;         // H, of queries
  int64_t kv_heads = 0;      // K, divides H
  int64_t head_dim = 0;      // D, even
  int64_t num_layers = 0;
  int64_t vocab_size = 0;
  int64_t context_limit = 0;
  double norm_eps = 0;
  StartToken start_token;
  std::optional<bool> tied;  // whether the head is the embedding, as the configuration says or means
  bool qkv_bias = false, o_bias = false, mlp_bias = false;
  bool qk_norm = false;  // queries and keys are normed, head by head, before they are rotated
  Rope rope;
  // [num_layers]: how many tokens a query sees, its own included; 0: all before it.
  std::vector<int64_t> windows;
  std::vector<std::string> warnings;
};

// What configurations call the members of the family: classes and model types.
std::vector<std::string> llama_names();

// True if the tensors are a family member's, as far as names tell.
bool has_llama_tensors(const WeightSource& source);

// Throws Error if shapes disagree with each other or with the configuration, if a number is missing that
// shapes do not tell, or if the configuration asks for what is not supported.
LlamaConfig read_llama_config(const WeightSource& source);

}  // namespace ptq
