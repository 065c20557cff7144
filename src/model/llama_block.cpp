#include "model/llama_block.h"

#include <algorithm>

#include "model/attention.h"
#include "model/reading.h"
#include "ptq/ops/ops.h"

namespace ptq {
namespace {

constexpr int64_t kLeastRoom = 64;  // tokens that a cache has room for beyond those it holds

// Puts `more` [batch, n, length, D] behind `held` [batch, n, kept, D], which lies in `buffer`. Returns both,
// in `buffer`: as it is, or a larger one if it is full, so that few tokens are ever copied again.
Tensor appended(const Tensor& held, const Tensor& more, Tensor& buffer) {
  const int64_t kept = held.size(2), total = kept + more.size(2);
  int64_t begin = held.storage_offset() / held.size(3);
  if (begin + total > buffer.size(2)) {
    std::vector<int64_t> sizes = more.sizes().vec();
    sizes[2] = total + std::max(total / 2, kLeastRoom);
    buffer = at::empty(sizes, more.options());
    buffer.narrow(2, 0, kept).copy_(held);
    begin = 0;
  }
  const Tensor all = buffer.narrow(2, begin, total);
  all.narrow(2, kept, more.size(2)).copy_(more);
  return all;
}

Site head_site(const char* name, int64_t head_dim) {
  Site site = make_site(name, "attention");
  site.head = head_dim;
  return site;
}

}  // namespace

LlamaBlock::LlamaBlock(const WeightSource& source, const LlamaConfig& config, int64_t index)
    : prefix_("model.layers." + std::to_string(index)),
      heads_(config.heads),
      kv_heads_(config.kv_heads),
      head_dim_(config.head_dim),
      window_(config.windows.at(static_cast<size_t>(index))),
      norm_eps_(config.norm_eps),
      rope_(config.rope) {
  const int64_t d = config.hidden, F = config.intermediate;
  const int64_t q_rows = heads_ * head_dim_, kv_rows = kv_heads_ * head_dim_;
  const std::string attention = prefix_ + ".self_attn.", mlp = prefix_ + ".mlp.";
  input_norm_ = source.read(prefix_ + ".input_layernorm.weight", Role::kNorm, {d});
  q_ = read_linear(source, attention + "q_proj", "qkv.input", q_rows, d, config.qkv_bias);
  k_ = read_linear(source, attention + "k_proj", "qkv.input", kv_rows, d, config.qkv_bias);
  v_ = read_linear(source, attention + "v_proj", "qkv.input", kv_rows, d, config.qkv_bias);
  if (config.qk_norm) {
    q_norm_ = source.read(attention + "q_norm.weight", Role::kNorm, {head_dim_});
    k_norm_ = source.read(attention + "k_norm.weight", Role::kNorm, {head_dim_});
  }
  o_ = read_linear(source, attention + "o_proj", "o.input", d, q_rows, config.o_bias);
  post_norm_ = source.read(prefix_ + ".post_attention_layernorm.weight", Role::kNorm, {d});
  gate_ = read_linear(source, mlp + "gate_proj", "gate_up.input", F, d, config.mlp_bias);
  up_ = read_linear(source, mlp + "up_proj", "gate_up.input", F, d, config.mlp_bias);
  down_ = read_linear(source, mlp + "down_proj", "down.input", d, F, config.mlp_bias);

  qkv_input_ = make_site("qkv.input", "linear_input");
  attn_q_ = head_site("attn.q", head_dim_);
  attn_k_ = head_site("attn.k", head_dim_);
  attn_v_ = head_site("attn.v", head_dim_);
  o_input_ = make_site("o.input", "linear_input");
  gate_up_input_ = make_site("gate_up.input", "linear_input");
  down_input_ = make_site("down.input", "linear_input");
}

// y [batch, length, n D] -> the same shape, normed if there is a norm, and rotated.
Tensor LlamaBlock::rotated(const Tensor& y, const std::optional<Weight>& norm, const Turn& turn) const {
  Tensor heads = y.unflatten(-1, {-1, head_dim_});
  if (norm) heads = ops::rms_norm(heads, norm->value, norm_eps_);
  return turn(heads).flatten(-2);
}

// [batch, length, n D] -> [batch, n, length, D]
Tensor LlamaBlock::by_head(const Activation& a) const {
  return a.dequantize().unflatten(-1, {-1, head_dim_}).transpose(1, 2);
}

// Puts the keys and values seen before in front of k and v, and into the state what the next token can reach.
void LlamaBlock::remember(BlockState& state, Tensor& k, Tensor& v) const {
  Tensor &keys = state.tensors.at(0), &values = state.tensors.at(1), &past = state.tensors.at(2);
  past = past + k.size(2);
  k = appended(keys, k, state.tensors.at(3));
  v = appended(values, v, state.tensors.at(4));
  const int64_t kept = window_ == 0 ? k.size(2) : std::min(k.size(2), window_ - 1);
  keys = k.slice(2, k.size(2) - kept);
  values = v.slice(2, v.size(2) - kept);
}

// hidden [batch, length, d] -> what attention adds to it
Tensor LlamaBlock::attention(const Tensor& hidden, BlockState* state) const {
  const int64_t past = state == nullptr ? 0 : state->tensors.at(2).item<int64_t>();
  const Turn turn = rope_.at(past, hidden.size(1));
  const Activation x = qkv_input_(ops::rms_norm(hidden, input_norm_.value, norm_eps_));
  const Tensor q = by_head(attn_q_(rotated(q_(x), q_norm_, turn)));
  Tensor k = by_head(attn_k_(rotated(k_(x), k_norm_, turn)));
  Tensor v = by_head(attn_v_(v_(x)));
  if (state != nullptr) remember(*state, k, v);
  return o_(o_input_(attend(q, k, v, window_).flatten(-2)));
}

Tensor LlamaBlock::forward(const Tensor& hidden, BlockState* state) const {
  const Tensor middle = attention(hidden, state).add_(hidden);
  const Activation x = gate_up_input_(ops::rms_norm(middle, post_norm_.value, norm_eps_));
  Tensor gate = gate_(x);
  at::silu_(gate).mul_(up_(x));
  return down_(down_input_(gate)).add_(middle);
}

BlockState LlamaBlock::initial_state(int64_t batch) const {
  const Tensor none = at::zeros({batch, kv_heads_, 0, head_dim_}, input_norm_.value.options());
  return {{none, none, at::zeros({}, at::kLong), none, none}};
}

std::vector<Site*> LlamaBlock::sites() {
  return {&qkv_input_, &attn_q_, &attn_k_, &attn_v_, &o_input_, &gate_up_input_, &down_input_};
}

std::vector<Linear*> LlamaBlock::linears() {
  return {&q_, &k_, &v_, &o_, &gate_, &up_, &down_};
}

std::vector<Weight*> LlamaBlock::weights() {
  std::vector<Weight*> all = {&input_norm_, &post_norm_};
  for (std::optional<Weight>* norm : {&q_norm_, &k_norm_}) {
    if (*norm) all.push_back(&**norm);
  }
  for (Linear* linear : linears()) {
    all.push_back(&linear->weight);
    if (linear->bias) all.push_back(&*linear->bias);
  }
  return all;
}

// Queries and keys have none: their norms and the rotation mix channels.
std::vector<FoldEdge> LlamaBlock::fold_edges() {
  const auto made_by = [](const char* site, Linear& producer, Linear& reader) {
    FoldEdge edge{site, {{&producer.weight, 0}}, {&reader}, {}};
    if (producer.bias) edge.producers.push_back({&*producer.bias, 0});
    return edge;
  };
  FoldEdge values = made_by("o.input", v_, o_);
  if (heads_ != kv_heads_) {
    const Tensor channel = at::arange(heads_ * head_dim_, at::kLong);
    const Tensor kv_head = channel.floor_divide(head_dim_ * (heads_ / kv_heads_));
    values.row_of = kv_head * head_dim_ + channel.remainder(head_dim_);
  }
  return {{"qkv.input", {{&input_norm_, 0}}, {&q_, &k_, &v_}, {}},
          values,
          {"gate_up.input", {{&post_norm_, 0}}, {&up_, &gate_}, {}},
          made_by("down.input", up_, down_)};
}

std::vector<ProductPair> LlamaBlock::product_pairs() {
  return {{"attn.q", "attn.k", head_dim_}};
}

// Every query meets half of the keys on average, and as many values; a window bounds both.
MixingCost LlamaBlock::mixing_cost(int64_t length) const {
  const int64_t seen = window_ == 0 ? length : std::min(length, window_);
  const auto pairs = static_cast<double>(length) * static_cast<double>(seen) / 2;
  return {4 * pairs * static_cast<double>(heads_ * head_dim_), 2 * kv_heads_ * head_dim_ * seen};
}

}  // namespace ptq
