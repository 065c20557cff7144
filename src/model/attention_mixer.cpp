// Causal attention of grouped heads.
//
// The state holds keys and values as their sites round them. They stop growing where a window puts older
// tokens out of reach.
#include <algorithm>
#include <array>

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

// The norm of queries or keys.
class HeadNorm {
 public:
  // `name` is that of its tensors; heads of D channels.
  HeadNorm(const WeightSource& source, const QkNormLayout& layout, const std::string& name, int64_t heads,
           int64_t head_dim)
      : over_(layout.over), head_dim_(head_dim) {
    const bool each = over_ == QkNormLayout::Over::kEachHead;
    for (int64_t h = 0; h < (each ? heads : 1); ++h) {
      const std::string gain = name + (each ? ".norms." + std::to_string(h) : "") + ".weight";
      const int64_t channels = over_ == QkNormLayout::Over::kProjection ? heads * head_dim : head_dim;
      norms_.push_back(read_norm(source, {gain, layout.eps, layout.offset, layout.centred}, channels));
    }
  }

  // y [batch, length, heads D] -> the same shape.
  Tensor operator()(const Tensor& y) const {
    if (over_ == QkNormLayout::Over::kProjection) return norms_[0](y);
    const Tensor heads = y.unflatten(-1, {-1, head_dim_});
    if (over_ == QkNormLayout::Over::kHead) return norms_[0](heads).flatten(-2);
    std::vector<Tensor> normed;
    for (size_t h = 0; h < norms_.size(); ++h)
      normed.push_back(norms_[h](heads.select(-2, static_cast<int64_t>(h))));
    return at::cat(normed, -1);
  }
  std::vector<Weight*> weights() {
    std::vector<Weight*> all;
    for (Norm& norm : norms_) all.push_back(&norm.gain);
    return all;
  }

 private:
  QkNormLayout::Over over_;
  int64_t head_dim_;
  std::vector<Norm> norms_;
};

class AttentionMixer : public Part {
 public:
  AttentionMixer(const WeightSource& source, const AttentionLayout& layout);

  std::unique_ptr<Part> clone() const override { return std::make_unique<AttentionMixer>(*this); }
  Tensor forward(const Tensor& x, PartState* state, Observer* observer) const override;
  PartState initial_state(int64_t batch, CacheFloats floats) const override;
  std::vector<PartInput> inputs() override;
  std::vector<Site*> sites() override { return {&qkv_input_, &attn_q_, &attn_k_, &attn_v_, &o_input_}; }
  std::vector<Linear*> linears() override;
  std::vector<Weight*> weights() override;
  std::vector<FoldEdge> fold_edges() override;
  MixingCost mixing_cost(int64_t length) const override;
  std::vector<ProductPair> product_pairs() override { return {{"attn.q", "attn.k", layout_.head_dim}}; }

 private:
  std::array<Tensor, 3> queries_keys_values(const Activation& x) const;
  FoldEdge::Rows rows_of_values(Weight& weight) const;
  Tensor producers_of_channels() const;
  Tensor by_head(const Activation& a) const;
  Tensor attend_with_past(const Activation& q, const Activation& k, const Activation& v,
                          PartState& state) const;
  Scores scores() const { return {layout_.window, layout_.scale, layout_.softcap}; }

  AttentionLayout layout_;
  at::Device device_;  // weights may be given up

  // [H D, d], [K D, d], [K D, d], or one of all rows.
  std::vector<Linear> qkv_;
  std::optional<HeadNorm> q_norm_, k_norm_;
  Linear o_;  // [d, H D]

  Site qkv_input_, attn_q_, attn_k_, attn_v_, o_input_;
};

AttentionMixer::AttentionMixer(const WeightSource& source, const AttentionLayout& layout)
    : layout_(layout), device_(source.device()) {
  const std::string prefix = layout.prefix + ".";
  const int64_t d = layout.d_model, D = layout.head_dim;
  const int64_t q_rows = layout.heads * D, kv_rows = layout.kv_heads * D;
  const auto read = [&](const std::string& name, int64_t rows) {
    qkv_.push_back(read_linear(source, prefix + name, "qkv.input", rows, d, layout.qkv_bias));
  };
  if (layout.rows == QkvRows::kApart) {
    read("q_proj", q_rows);
    read("k_proj", kv_rows);
    read("v_proj", kv_rows);
  } else {
    read(layout.joined, q_rows + 2 * kv_rows);
  }
  if (layout_.rope) layout_.rope->move_to(source.device());
  if (layout.qk_norm) {
    q_norm_.emplace(source, *layout.qk_norm, prefix + layout.qk_norm->q, layout.heads, D);
    k_norm_.emplace(source, *layout.qk_norm, prefix + layout.qk_norm->k, layout.kv_heads, D);
  }
  o_ = read_linear(source, prefix + layout.o, "o.input", d, q_rows, layout.o_bias);

  qkv_input_ = make_site("qkv.input", "linear_input");
  attn_q_ = head_site("attn.q", D);
  attn_k_ = head_site("attn.k", D);
  attn_v_ = head_site("attn.v", D);
  o_input_ = make_site("o.input", "linear_input");
}

// Queries [batch, length, H D], keys and values [batch, length, K D], as the linears give them.
std::array<Tensor, 3> AttentionMixer::queries_keys_values(const Activation& x) const {
  if (qkv_.size() == 3) return {qkv_[0](x), qkv_[1](x), qkv_[2](x)};
  const Tensor all = qkv_[0](x);
  const int64_t D = layout_.head_dim, q_rows = layout_.heads * D, kv_rows = layout_.kv_heads * D;
  if (layout_.rows == QkvRows::kHeadwise) {
    const Tensor heads = all.unflatten(-1, {layout_.heads, 3, D});
    const auto part = [&](int64_t i) { return heads.select(-2, i).flatten(-2); };
    return {part(0), part(1), part(2)};
  }
  const auto part = [&](int64_t first, int64_t rows) {
    return all.slice(-1, first, first + rows).contiguous();
  };
  return {part(0, q_rows), part(q_rows, kv_rows), part(q_rows + kv_rows, kv_rows)};
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
  const bool plain = !layout_.scale && layout_.softcap == 0;
  if (plain && length == 1 && !state.keys.in_float32() && !state.values.in_float32()) {
    if (window != 0) {  // further tokens are out of this one's reach too
      state.keys.keep_last(window);
      state.values.keep_last(window);
    }
    y = attend_to_cached(q.dequantize(), state.keys, state.values);
  } else {
    y = attend(by_head(q), state.keys.values(), state.values.values(), scores()).flatten(-2);
  }
  if (window != 0) {
    state.keys.keep_last(window - 1);
    state.values.keep_last(window - 1);
  }
  return y;
}

// input [batch, length, d]
Tensor AttentionMixer::forward(const Tensor& input, PartState* state, Observer* observer) const {
  const Activation x = qkv_input_(input, observer);
  auto [query, key, value] = queries_keys_values(x);
  if (layout_.key_scale != 1) key.mul_(layout_.key_scale);
  if (q_norm_) {
    query = (*q_norm_)(query);
    key = (*k_norm_)(key);
  }
  if (layout_.clip != 0) {
    for (Tensor* each : {&query, &key, &value}) each->clamp_(-layout_.clip, layout_.clip);
  }
  if (layout_.rope) {
    const int64_t past = state == nullptr ? 0 : state->past, length = input.size(1);
    const Turn turn = layout_.rope->at(past, length, state == nullptr ? length : state->text_length);
    query = turn(query);
    key = turn(key);
  }
  const Activation q = attn_q_(query, observer), k = attn_k_(key, observer), v = attn_v_(value, observer);
  const Tensor y = state == nullptr ? attend(by_head(q), by_head(k), by_head(v), scores()).flatten(-2)
                                    : attend_with_past(q, k, v, *state);
  return o_(o_input_(y, observer));
}

PartState AttentionMixer::initial_state(int64_t batch, CacheFloats floats) const {
  const auto rows = [&](const Site& site) {
    return CachedRows(batch, layout_.kv_heads, layout_.head_dim, site.quantizer.scheme(), device_, floats);
  };
  return {.keys = rows(attn_k_), .values = rows(attn_v_)};
}

std::vector<PartInput> AttentionMixer::inputs() {
  PartInput input{"qkv.input", {}};
  for (Linear& linear : qkv_) input.readers.push_back(&linear);
  return {input};
}

std::vector<Linear*> AttentionMixer::linears() {
  std::vector<Linear*> all;
  for (Linear& linear : qkv_) all.push_back(&linear);
  all.push_back(&o_);
  return all;
}

std::vector<Weight*> AttentionMixer::weights() {
  std::vector<Weight*> all;
  for (std::optional<HeadNorm>* norm : {&q_norm_, &k_norm_}) {
    if (!*norm) continue;
    for (Weight* weight : (*norm)->weights()) all.push_back(weight);
  }
  for (Weight* weight : weights_of(linears())) all.push_back(weight);
  return all;
}

// [H D]: the row of the values' linear, less the first one of values, that makes each channel of o.input;
// undefined if they have one order.
Tensor AttentionMixer::producers_of_channels() const {
  const int64_t D = layout_.head_dim, H = layout_.heads, K = layout_.kv_heads;
  if (H == K && layout_.rows != QkvRows::kHeadwise) return {};
  const Tensor channel = at::arange(H * D, at::kLong);
  const Tensor head = channel.floor_divide(D * (H / K)), within = channel.remainder(D);
  return layout_.rows == QkvRows::kHeadwise ? head * 3 * D + 2 * D + within : head * D + within;
}

FoldEdge::Rows AttentionMixer::rows_of_values(Weight& weight) const {
  const bool joined = layout_.rows == QkvRows::kJoined;
  return {&weight, joined ? (layout_.heads + layout_.kv_heads) * layout_.head_dim : 0};
}

// Queries and keys have none: their norms and the rotation mix channels. Nor have values that are clamped.
std::vector<FoldEdge> AttentionMixer::fold_edges() {
  if (layout_.clip != 0) return {};
  Linear& values = qkv_.back();
  FoldEdge edge{{"o.input"}, {rows_of_values(values.weight)}, {&o_}, producers_of_channels()};
  if (values.bias) edge.producers.push_back(rows_of_values(*values.bias));
  return {edge};
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
