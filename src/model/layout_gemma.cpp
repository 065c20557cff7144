// Gemma 2 and 3 (arXiv 2408.00118, 2503.19786): norms before and after each part, gains stored as g - 1.
#include <cmath>

#include "model/layout_reader.h"
#include "model/layouts.h"
#include "model/nonlinearity.h"

namespace ptq {
namespace {

const char* const kFull = "full_attention";
const char* const kSliding = "sliding_attention";

// What both have, but for the layers' types, their rope, and the norms of queries and keys.
struct GemmaReader : LayoutReader {
  GemmaReader(const WeightSource& source, const char* name, double softcap, int64_t context_limit);

  NormLayout norm(const std::string& weight) const { return {weight, norm_eps, /*offset=*/1}; }
  // The types that are stated, or those of `pattern`: every so many layers one with full attention.
  void add_layers(int64_t pattern, const std::optional<QkNormLayout>& qk_norm, const Rope& full,
                  const Rope& sliding);

  double norm_eps, scale, score_cap;
  int64_t window, d_inner;
  Heads heads;
  bool attention_bias;
  Nonlinearity f;
};

GemmaReader::GemmaReader(const WeightSource& source, const char* name, double softcap, int64_t context_limit)
    : LayoutReader(source, name, "model.embed_tokens.weight", "model.layers.", /*tied=*/true) {
  const std::string attention = layer(0) + ".self_attn.";
  norm_eps = eps("rms_norm_eps", 1e-6);
  scale = 1 / std::sqrt(positive("query_pre_attn_scalar", 256));
  score_cap = positive_or_off("attn_logit_softcapping", softcap == 0 ? 0 : 50);
  window = count("sliding_window", 4096);
  d_inner = rows(layer(0) + ".mlp.gate_proj.weight");
  expect_equal(fields, {"hidden_size"}, hidden);
  expect_equal(fields, {"intermediate_size"}, d_inner);
  heads = read_heads(fields, hidden, rows(attention + "q_proj.weight"), rows(attention + "k_proj.weight"));
  attention_bias = bias("attention_bias", false, attention + "q_proj.bias");
  f = read_nonlinearity(fields, "hidden_activation", "gelu_pytorch_tanh");
  // An older word that transformers does not read.
  if (read_nonlinearity(fields, "hidden_act", "gelu_pytorch_tanh") != f)
    model.warnings.emplace_back("config.json: hidden_act is not read, but hidden_activation: they differ");
  model.context_limit = count("max_position_embeddings", context_limit);
  // In float32 the root is exact; models that run in bfloat16 round it.
  model.embedding_scale = std::sqrt(static_cast<double>(hidden));
  model.final_norm = norm("model.norm.weight");
  model.softcap = positive_or_off("final_logit_softcapping", softcap);
}

void GemmaReader::add_layers(int64_t pattern, const std::optional<QkNormLayout>& qk_norm, const Rope& full,
                             const Rope& sliding) {
  const std::vector<std::string> types = layer_types("layer_types", {kFull, kSliding});
  for (int64_t i = 0; i < num_layers; ++i) {
    const std::string name = layer(i);
    const bool slides = types.empty() ? (i + 1) % pattern != 0 : types[static_cast<size_t>(i)] == kSliding;
    const AttentionLayout attention{.prefix = name + ".self_attn",
                                    .d_model = hidden,
                                    .heads = heads.queries,
                                    .kv_heads = heads.keys,
                                    .head_dim = heads.channels,
                                    .window = slides ? window : 0,
                                    .qkv_bias = attention_bias,
                                    .o_bias = attention_bias,
                                    .rope = slides ? sliding : full,
                                    .qk_norm = qk_norm,
                                    .scale = scale,
                                    .softcap = score_cap};
    const DenseLayout feed_forward{.prefix = name + ".mlp", .d_model = hidden, .d_inner = d_inner, .f = f};
    SublayerLayout first = pre_normed(norm(name + ".input_layernorm.weight"), attention);
    first.post = norm(name + ".post_attention_layernorm.weight");
    SublayerLayout second = pre_normed(norm(name + ".pre_feedforward_layernorm.weight"), feed_forward);
    second.post = norm(name + ".post_feedforward_layernorm.weight");
    model.blocks.push_back({name, {first, second}});
  }
}

// The configuration of one layer type's rope, in the words that read_rope() knows.
Json rope_of_type(const Json& config, const char* type) {
  const Json parameters = config.value("rope_parameters", Json());
  if (parameters.is_object() && parameters.contains(type)) return {{"rope_parameters", parameters.at(type)}};
  if (type == std::string(kSliding)) return {{"rope_theta", config.value("rope_local_base_freq", Json(1e4))}};
  Json full = {{"rope_theta", config.value("rope_theta", Json(1e6))}};
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (config.contains(key)) full[key] = config.at(key);
  }
  return full;
}

}  // namespace

ModelLayout gemma2_layout(const WeightSource& source) {
  GemmaReader reader(source, "Gemma 2", /*softcap=*/30, /*context_limit=*/8192);
  const Rope rope = reader.rope(reader.heads.channels);
  reader.add_layers(/*pattern=*/2, {}, rope, rope);
  return reader.finish();
}

ModelLayout gemma3_layout(const WeightSource& source) {
  GemmaReader reader(source, "Gemma 3", /*softcap=*/0, /*context_limit=*/131072);
  for (const char* key : {"rope_parameters", "rope_theta", "rope_scaling", "rope_local_base_freq"})
    reader.fields.has(key);
  const auto rope = [&](const char* type) {
    return read_rope(rope_of_type(source.config(), type), reader.heads.channels, reader.model.context_limit,
                     reader.model.warnings);
  };
  const QkNormLayout qk_norm{.eps = reader.norm_eps, .offset = 1};
  reader.add_layers(reader.count("sliding_window_pattern", 6), qk_norm, rope(kFull), rope(kSliding));
  return reader.finish();
}

}  // namespace ptq
