// What a model is made of, as data: an architecture is a function from a configuration to a ModelLayout.
//
// Sizes have been checked against tensor shapes by whoever made a layout; parts are read from it (parts.h).
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "model/reading.h"
#include "model/rope.h"

namespace ptq {

struct NormLayout {
  std::string weight;  // the gain's name
  double eps = 0;
};

// A Mamba-1 mixer. Its tensors are `prefix` + ".in_proj.weight" and so on.
struct Mamba1Layout {
  std::string prefix;                           // "backbone.layers.3.mixer"
  int64_t d_model = 0;                          // d
  int64_t d_inner = 0;                          // E
  int64_t d_state = 0;                          // N
  int64_t d_conv = 0;                           // W
  int64_t dt_rank = 0;                          // R
  bool linear_bias = false, conv_bias = false;  // of in_proj and out_proj; dt_proj always has one
};

// A Mamba-2 mixer: `prefix` + ".in_proj.weight" and so on.
struct Mamba2Layout {
  // The norm of what the scan gives, RMS along each of `groups` parts of its channels.
  struct Gated {
    double eps = 0;
    int64_t groups = 1;
    bool before_gate = false;  // norm(y) * silu(z) instead of norm(y * silu(z))
  };

  std::string prefix;  // "backbone.layers.3.mixer"
  int64_t d_model = 0;
  int64_t d_inner = 0;   // E
  int64_t heads = 0;     // H, divides E
  int64_t head_dim = 0;  // P = E / H
  int64_t groups = 0;    // G, divides H: B and C of a group are those of H / G heads
  int64_t d_state = 0;   // N
  int64_t d_conv = 0;    // W
  bool in_bias = false, out_bias = false, conv_bias = false;
  std::optional<Gated> norm;                                             // without: y * silu(z)
  double dt_low = 0, dt_high = std::numeric_limits<double>::infinity();  // dt is clamped to them
  std::array<double, 5> multipliers = {1, 1, 1, 1, 1};                   // of z, x, B, C, dt
  bool D_by_channel = false;                                             // D is [E] instead of [H]
};

// Causal attention of grouped heads with rotary positions: `prefix` + ".q_proj.weight" and so on.
struct AttentionLayout {
  std::string prefix;  // "model.layers.3.self_attn"
  int64_t d_model = 0;
  int64_t heads = 0;     // H, of queries
  int64_t kv_heads = 0;  // K, divides H
  int64_t head_dim = 0;  // D, even
  int64_t window = 0;    // how many tokens a query sees, its own included; 0: all before it
  bool qkv_bias = false, o_bias = false;
  std::optional<double> qk_norm_eps;  // queries and keys are normed, head by head, before they are rotated
  Rope rope;
};

// down(silu(gate(x)) * up(x)): `prefix` + ".gate_proj.weight" and so on.
struct GatedLayout {
  std::string prefix;  // "model.layers.3.mlp"
  int64_t d_model = 0;
  int64_t d_inner = 0;  // F
  bool bias = false;
};

using PartLayout = std::variant<Mamba1Layout, Mamba2Layout, AttentionLayout, GatedLayout>;

struct BranchLayout {
  PartLayout part;
  int norm = 0;  // see Branch
  double in_scale = 1, out_scale = 1;
};

struct SublayerLayout {
  std::vector<NormLayout> norms;
  std::vector<BranchLayout> branches;
  std::optional<NormLayout> post;
  double residual_scale = 1;
};

// The plain sublayer: x <- x + part(norm(x)).
inline SublayerLayout pre_normed(NormLayout norm, PartLayout part) {
  SublayerLayout sublayer;
  sublayer.norms = {std::move(norm)};
  sublayer.branches = {{std::move(part)}};
  return sublayer;
}

struct BlockLayout {
  std::string prefix;  // of the names of its sites
  std::vector<SublayerLayout> sublayers;
};

struct ModelLayout {
  std::string embedding;  // the tensor's name
  std::vector<BlockLayout> blocks;
  NormLayout final_norm;
  int64_t context_limit = 0;  // 0: none
  StartToken start_token;
  std::optional<bool> tied;           // whether the head is the embedding, as the configuration says or means
  Json config;                        // config.json in Hugging Face's form
  std::vector<std::string> warnings;  // what the configuration says and the model does not do
};

}  // namespace ptq
