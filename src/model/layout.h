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

// An RMS norm, or a LayerNorm, which has a bias and takes the mean off.
struct NormLayout {
  std::string weight;  // the gain's name
  double eps = 0;
  double offset = 0;      // what is multiplied by is the gain plus this
  bool centred = false;   // a LayerNorm
  std::string bias = "";  // its name; "": none

  // A LayerNorm with the gain and bias `name` + ".weight", ".bias".
  static NormLayout layer_norm(const std::string& name, double eps) {
    return {name + ".weight", eps, 0, true, name + ".bias"};
  }
};

// A Mamba-1 mixer. Its tensors are `prefix` + ".in_proj.weight" and so on.
struct Mamba1Layout {
  std::string prefix = "";                      // "backbone.layers.3.mixer"
  int64_t d_model = 0;                          // d
  int64_t d_inner = 0;                          // E
  int64_t d_state = 0;                          // N
  int64_t d_conv = 0;                           // W
  int64_t dt_rank = 0;                          // R
  bool linear_bias = false, conv_bias = false;  // of in_proj and out_proj; dt_proj always has one
  // RMS norms of dt, B and C as x_proj gives them.
  struct Norms {
    double eps = 0;
    bool gains =
        false;  // of `prefix` + ".dt_layernorm.weight" [R], ".b_layernorm", ".c_layernorm" [N]; else 1
  };
  std::optional<Norms> norms = {};
};

// A Mamba-2 mixer: `prefix` + ".in_proj.weight" and so on.
struct Mamba2Layout {
  // The norm of what the scan gives, RMS along each of `groups` parts of its channels.
  struct Gated {
    double eps = 0;
    int64_t groups = 1;
    bool before_gate = false;  // norm(y) * silu(z) instead of norm(y * silu(z))
  };

  std::string prefix = "";  // "backbone.layers.3.mixer"
  int64_t d_model = 0;
  int64_t d_inner = 0;   // E
  int64_t heads = 0;     // H, divides E
  int64_t head_dim = 0;  // P = E / H
  int64_t groups = 0;    // G, divides H: B and C of a group are those of H / G heads
  int64_t d_state = 0;   // N
  int64_t d_conv = 0;    // W
  bool in_bias = false, out_bias = false, conv_bias = false;
  std::optional<Gated> norm = {};                                        // without: y * silu(z)
  double dt_low = 0, dt_high = std::numeric_limits<double>::infinity();  // dt is clamped to them
  std::array<double, 5> multipliers = {1, 1, 1, 1, 1};                   // of z, x, B, C, dt
  bool D_by_channel = false;                                             // D is [E] instead of [H]
};

// In which linears the rows of queries, keys and values lie.
enum class QkvRows {
  kApart,     // q_proj, k_proj, v_proj
  kJoined,    // one, the rows of all queries, then those of all keys, then of all values
  kHeadwise,  // one, the rows of query, key and value of the first head, then of the next
};

// Norms of queries and keys before they are rotated.
struct QkNormLayout {
  enum class Over {
    kHead,        // each head, with one gain for all: `q` + ".weight" [D]
    kProjection,  // all heads at once: `q` + ".weight" [H D]
    kEachHead,    // each head with its own gain: `q` + ".norms.3.weight" [D]
  };
  Over over = Over::kHead;
  double eps = 0;
  double offset = 0;     // see NormLayout
  bool centred = false;  // without a bias
  std::string q = "q_norm", k = "k_norm";
};

// Causal attention of grouped heads: `prefix` + ".q_proj.weight" and so on.
struct AttentionLayout {
  std::string prefix = "";  // "model.layers.3.self_attn"
  int64_t d_model = 0;
  int64_t heads = 0;     // H, of queries
  int64_t kv_heads = 0;  // K, divides H
  int64_t head_dim = 0;  // D
  int64_t window = 0;    // how many tokens a query sees, its own included; 0: all before it
  bool qkv_bias = false, o_bias = false;
  std::optional<Rope> rope = {};  // none: nothing is rotated
  std::optional<QkNormLayout> qk_norm = {};
  QkvRows rows = QkvRows::kApart;
  std::string joined = "qkv_proj", o = "o_proj";  // names; `joined` is that of the one linear
  std::optional<double> scale = {};               // of scores; none: D^-1/2
  double key_scale = 1;                           // of what k_proj gives
  double softcap = 0;                             // scores become c tanh(s / c); 0: they do not
  double clip = 0;                                // queries, keys and values are clamped to +-clip; 0: not
};

enum class Nonlinearity { kSilu, kGelu, kGeluTanh, kRelu, kReluSquared };

// down(f(gate(x)) * up(x)), or down(f(up(x))): `prefix` + ".gate_proj.weight" and so on.
struct DenseLayout {
  enum class Form {
    kGated,   // gate and up are apart
    kJoined,  // one linear, `up`, has the rows of the gate, then those of up
    kPlain,   // there is no gate
  };
  std::string prefix = "";  // "model.layers.3.mlp"
  int64_t d_model = 0;
  int64_t d_inner = 0;  // F
  bool bias = false;
  Form form = Form::kGated;
  Nonlinearity f = Nonlinearity::kSilu;
  std::string gate = "gate_proj", up = "up_proj", down = "down_proj";
  double gate_scale = 1;  // of what the gate gives, before f
  // The full name of a linear [1, d] of x: its sigmoid multiplies what down gives; "": none.
  std::string output_gate = "";
};

// Which experts of a mixture read a token, and how much of each counts.
struct RouterLayout {
  enum class Score {
    kSoftmax,          // of all experts
    kSoftmaxOfChosen,  // of those chosen, by their logits
    kSigmoid,          // of each by itself
  };
  std::string name = "";  // of the linear [experts, d]
  Score score = Score::kSoftmax;
  int64_t chosen = 0;            // k
  bool normed = false;           // the weights of those chosen are divided by their sum
  double scale = 1;              // of the weights
  std::string choice_bias = "";  // [experts], added to the scores to choose by, not to the weights; "": none
  // Experts lie in so many groups, of which those with the best sums of two scores are looked at.
  int64_t groups = 1, chosen_groups = 1;
};

// sum over the chosen experts of weight_e expert_e(x).
struct MoeLayout {
  std::string prefix = "";  // "model.layers.3.mlp"
  int64_t d_model = 0;
  RouterLayout router = {};
  std::vector<DenseLayout> experts = {};  // all of one shape
  // Names of linears before and after the experts, which are as wide as `experts` say; "": none.
  std::string latent_in = "", latent_out = "";
};

using PartLayout = std::variant<Mamba1Layout, Mamba2Layout, AttentionLayout, DenseLayout, MoeLayout>;

struct BranchLayout {
  PartLayout part;
  int norm = 0;  // see Branch
  double in_scale = 1, out_scale = 1;
};

struct SublayerLayout {
  std::vector<NormLayout> norms;
  std::vector<BranchLayout> branches;
  std::optional<NormLayout> post = {};
  double residual_scale = 1;
  std::optional<NormLayout> closing = {};
};

// The plain sublayer: x <- x + part(norm(x)).
inline SublayerLayout pre_normed(NormLayout norm, PartLayout part) {
  SublayerLayout sublayer;
  sublayer.norms = {std::move(norm)};
  sublayer.branches = {{std::move(part)}};
  return sublayer;
}

struct BlockLayout {
  std::string prefix = "";  // of the names of its sites
  std::vector<SublayerLayout> sublayers;
};

// Rows that are added to the embedding by position.
struct PositionsLayout {
  std::string weight;  // [positions + offset, d]
  int64_t offset = 0;  // the row of the first position
};

struct ModelLayout {
  std::string embedding;        // the tensor's name
  double embedding_scale = 1;   // what its rows are multiplied by
  std::string project_in = "";  // a linear from its rows to the hidden states; "": none
  std::optional<PositionsLayout> positions = {};
  std::vector<BlockLayout> blocks;
  std::optional<NormLayout> final_norm;
  std::string project_out = "";         // a linear from the hidden states to the head; "": none
  std::string head = "lm_head.weight";  // the tensor's name, where it is not the embedding
  double logits_scale = 1;
  double softcap = 0;         // logits become c tanh(y / c); 0: they do not
  int64_t context_limit = 0;  // 0: none
  StartToken start_token;
  std::optional<bool> tied;           // whether the head is the embedding, as the configuration says or means
  Json config;                        // config.json in Hugging Face's form
  std::vector<std::string> warnings;  // what the configuration says and the model does not do
};

}  // namespace ptq
