// Causal attention of grouped heads with rotary positions, as in Llama, Mistral, Qwen2 and Qwen3.
//
// The state holds keys and values as their sites round them. They stop growing where a window puts older
// tokens out of reach.
#include <algorithm>

#include "model/attention.h"
#include "model/parts.h"
#include "model/reading.h"
#include "ptq/ops/ops.h"

namespace ptq {
namespace {

Site head_site(const char* name, int64_t head_dim) {
  Site site = make_site(name, "attention");
  site.head_dim = head_dim;
  return site;
}

class AttentionMixer : public Part {
 public:
  AttentionMixer(const WeightSource& source, const AttentionLayout& layout);

  std::unique_ptr<Part> clone() const override { return std::make_unique<AttentionMixer>(*this); }
  Tensor forward(const Tensor& x, PartState* state, Observer* observer) const override;
  PartState initial_state(int64_t batch, CacheFloats floats) const override;
  std::vector<PartInput> inputs() override { return {{"qkv.input", {&q_, &k_, &v_}}}; }
  std::vector<Site*> sites() override { return {&qkv_input_, &attn_q_, &attn_k_, &attn_v_, &o_input_}; }
  std::vector<Linear*> linears() override { return {&q_, &k_, &v_, &o_}; }
  std::vector<Weight*> weights() override;
  std::vector<FoldEdge> fold_edges() override;
  MixingCost mixing_cost(int64_t length) const override;
  std::vector<ProductPair> product_pairs() override { return {{"attn.q", "attn.k", layout_.head_dim}}; }

 private:
  Tensor rotated(const Tensor& y, const std::optional<Norm>& norm, const Turn& turn) const;
  Tensor by_head(const Activation& a) const;
  at::Device device() const { return layout_.rope.frequencies.device(); }  // weights may be given up
  Tensor attend_with_past(const Activation& q, const Activation& k, const Activation& v,
                          PartState& state) const;

  AttentionLayout layout_;

  Linear q_, k_, v_;                     // [H D, d], [K D, d], [K D, d]
  std::optional<Norm> q_norm_, k_norm_;  // [D]
  Linear o_;                             // [d, H D]

  Site qkv_input_, attn_q_, attn_k_, attn_v_, o_input_;
};

AttentionMixer::AttentionMixer(const WeightSource& source, const AttentionLayout& layout) : layout_(layout) {
  layout_.rope.frequencies = layout.rope.frequencies.to(source.device());
  const std::string prefix = layout.prefix + ".";
  const int64_t d = layout.d_model, D = layout.head_dim;
  const int64_t q_rows = layout.heads * D, kv_rows = layout.kv_heads * D;
  q_ = read_linear(source, prefix + "q_proj", "qkv.input", q_rows, d, layout.qkv_bias);
  k_ = read_linear(source, prefix + "k_proj", "qkv.input", kv_rows, d, layout.qkv_bias);
  v_ = read_linear(source, prefix + "v_proj", "qkv.input", kv_rows, d, layout.qkv_bias);
  if (layout.qk_norm_eps) {
    q_norm_ = read_norm(source, {prefix + "q_norm.weight", *layout.qk_norm_eps}, D);
    k_norm_ = read_norm(source, {prefix + "k_norm.weight", *layout.qk_norm_eps}, D);
  }
  o_ = read_linear(source, prefix + "o_proj", "o.input", d, q_rows, layout.o_bias);

  qkv_input_ = make_site("qkv.input", "linear_input");
  attn_q_ = head_site("attn.q", D);
  attn_k_ = head_site("attn.k", D);
  attn_v_ = head_site("attn.v", D);
  o_input_ = make_site("o.input", "linear_input");
}

// y [batch, length, n D] -> the same shape, normed if there is a norm, and rotated.
Tensor AttentionMixer::rotated(const Tensor& y, const std::optional<Norm>& norm, const Turn& turn) const {
  if (!norm) return turn(y);
  return turn((*norm)(y.unflatten(-1, {-1, layout_.head_dim})).flatten(-2));
}

// [batch, length, n D] -> [batch, n, length, D]
Tensor AttentionMixer::by_head(const Activation& a) const {
  return a.dequantize().unflatten(-1, {-1, layout_.head_dim}).transpose(1, 2);
}

// The outputs [batch, length, heads * head_dim] of tokens that come behind those in the state.
Tensor AttentionMixer::attend_with_past(const Activation& q, const Activation& k, const Activation& v,
                                        PartState& state) const {
  const int64_t length = q.sizes()[1], window = layout_.window;
  state.keys.append(k);
  state.values.append(v);
  state.past += length;
  Tensor y;
  if (length == 1 && !state.keys.in_float32() && !state.values.in_float32()) {
    if (window != 0) {  // further tokens are out of this one's reach too
      state.keys.keep_last(window);
      state.values.keep_last(window);
    }
    y = attend_to_cached(q.dequantize(), state.keys, state.values);
  } else {
    y = attend(by_head(q), state.keys.values(), state.values.values(), window).flatten(-2);
  }
  if (window != 0) {
    state.keys.keep_last(window - 1);
    state.values.keep_last(window - 1);
  }
  return y;
}

// input [batch, length, d]
Tensor AttentionMixer::forward(const Tensor& input, PartState* state, Observer* observer) const {
  const Turn turn = layout_.rope.at(state == nullptr ? 0 : state->past, input.size(1));
  const Activation x = qkv_input_(input, observer);
  const Activation q = attn_q_(rotated(q_(x), q_norm_, turn), observer);
  const Activation k = attn_k_(rotated(k_(x), k_norm_, turn), observer);
  const Activation v = attn_v_(v_(x), observer);
  const Tensor y = state == nullptr ? attend(by_head(q), by_head(k), by_head(v), layout_.window).flatten(-2)
                                    : attend_with_past(q, k, v, *state);
  return o_(o_input_(y, observer));
}

PartState AttentionMixer::initial_state(int64_t batch, CacheFloats floats) const {
  const auto rows = [&](const Site& site) {
    return CachedRows(batch, layout_.kv_heads, layout_.head_dim, site.quantizer.scheme(), device(), floats);
  };
  return {.keys = rows(attn_k_), .values = rows(attn_v_)};
}

std::vector<Weight*> AttentionMixer::weights() {
  std::vector<Weight*> all;
  for (std::optional<Norm>* norm : {&q_norm_, &k_norm_}) {
    if (*norm) all.push_back(&(*norm)->gain);
  }
  for (Weight* weight : weights_of(linears())) all.push_back(weight);
  return all;
}

// Queries and keys have none: their norms and the rotation mix channels.
std::vector<FoldEdge> AttentionMixer::fold_edges() {
  FoldEdge values = edge_between("o.input", v_, o_);
  if (layout_.heads != layout_.kv_heads) {
    const int64_t D = layout_.head_dim;
    const Tensor channel = at::arange(layout_.heads * D, at::kLong);
    const Tensor kv_head = channel.floor_divide(D * (layout_.heads / layout_.kv_heads));
    values.row_of = kv_head * D + channel.remainder(D);
  }
  return {values};
}

// Every query meets half of the keys on average, and as many values; a window bounds both.
MixingCost AttentionMixer::mixing_cost(int64_t length) const {
  const int64_t seen = layout_.window == 0 ? length : std::min(length, layout_.window);
  const auto pairs = static_cast<double>(length) * static_cast<double>(seen) / 2;
  return {4 * pairs * static_cast<double>(layout_.heads * layout_.head_dim),
          2 * layout_.kv_heads * layout_.head_dim * seen};
}

}  // namespace

std::unique_ptr<Part> make_part(const WeightSource& source, const AttentionLayout& layout) {
  return std::make_unique<AttentionMixer>(source, layout);
}

}  // namespace ptq
