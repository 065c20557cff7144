// Architectures with LayerNorms: GPT-NeoX (arXiv 2204.06745, Pythia's too), OPT (arXiv 2205.01068) and
// StableLM.
#include "model/layout_reader.h"
#include "model/layouts.h"
#include "model/nonlinearity.h"

namespace ptq {
namespace {

// The sublayers of a block: one after the other, or as one whose parts all read the hidden states before it,
// through one norm if both have the same.
std::vector<SublayerLayout> sublayers(bool in_parallel, const NormLayout& of_attention,
                                      const NormLayout& of_dense, const AttentionLayout& attention,
                                      const DenseLayout& dense) {
  if (!in_parallel) return {pre_normed(of_attention, attention), pre_normed(of_dense, dense)};
  SublayerLayout both = pre_normed(of_attention, attention);
  if (of_dense.weight != of_attention.weight) both.norms.push_back(of_dense);
  both.branches.push_back({dense, static_cast<int>(both.norms.size()) - 1});
  return {both};
}

// The first words of GPT-NeoX's configurations, in those that read_rope() knows.
Json gpt_neox_rope(const Json& config) {
  Json words = Json::object();
  for (const auto& [key, as] : {std::pair{"rope_parameters", "rope_parameters"},
                                {"rope_scaling", "rope_scaling"},
                                {"rotary_emb_base", "rope_theta"},
                                {"rope_theta", "rope_theta"},
                                {"rotary_pct", "partial_rotary_factor"},
                                {"partial_rotary_factor", "partial_rotary_factor"}}) {
    if (config.contains(key)) words[as] = config.at(key);
  }
  return words;
}

}  // namespace

ModelLayout gpt_neox_layout(const WeightSource& source) {
  LayoutReader reader(source, "GPT-NeoX", "gpt_neox.embed_in.weight", "gpt_neox.layers.", /*tied=*/false);
  JsonFields& fields = reader.fields;
  const std::string first = reader.layer(0);
  const double eps = reader.eps("layer_norm_eps", 1e-5);
  reader.model.head = "embed_out.weight";
  reader.model.final_norm = NormLayout::layer_norm("gpt_neox.final_layer_norm", eps);
  reader.model.context_limit = reader.count("max_position_embeddings", 2048);
  for (const char* key : {"rotary_pct", "rotary_emb_base"}) fields.has(key);
  for (const char* key : kRopeKeys) fields.has(key);
  expect_equal(fields, {"hidden_size"}, reader.hidden);
  const std::string qkv = first + ".attention.query_key_value.";
  const Heads heads = read_joined_heads(fields, reader.hidden, reader.rows(qkv + "weight"));
  if (heads.keys != heads.queries)
    throw Error("config.json: num_key_value_heads", "GPT-NeoX has as many heads of keys as of queries");
  const bool bias = reader.bias("attention_bias", true, qkv + "bias");
  AttentionLayout attention{.d_model = reader.hidden,
                            .heads = heads.queries,
                            .kv_heads = heads.keys,
                            .head_dim = heads.channels,
                            .qkv_bias = bias,
                            .o_bias = bias,
                            .rope = read_rope(gpt_neox_rope(source.config()), heads.channels,
                                              reader.model.context_limit, reader.model.warnings, 0.25),
                            .rows = QkvRows::kHeadwise,
                            .joined = "query_key_value",
                            .o = "dense"};
  DenseLayout dense{.d_model = reader.hidden,
                    .d_inner = reader.rows(first + ".mlp.dense_h_to_4h.weight"),
                    .bias = true,
                    .form = DenseLayout::Form::kPlain,
                    .f = read_nonlinearity(fields, "hidden_act", "gelu"),
                    .up = "dense_h_to_4h",
                    .down = "dense_4h_to_h"};
  expect_equal(fields, {"intermediate_size"}, dense.d_inner);
  const bool in_parallel = fields.boolean("use_parallel_residual", true);
  for (int64_t i = 0; i < reader.num_layers; ++i) {
    const std::string name = reader.layer(i);
    attention.prefix = name + ".attention";
    dense.prefix = name + ".mlp";
    const NormLayout before = NormLayout::layer_norm(name + ".input_layernorm", eps);
    const NormLayout between = NormLayout::layer_norm(name + ".post_attention_layernorm", eps);
    reader.model.blocks.push_back({name, sublayers(in_parallel, before, between, attention, dense)});
  }
  return reader.finish();
}

ModelLayout stablelm_layout(const WeightSource& source) {
  LayoutReader reader(source, "StableLM", "model.embed_tokens.weight", "model.layers.", /*tied=*/false);
  JsonFields& fields = reader.fields;
  const std::string first = reader.layer(0) + ".self_attn.";
  const double eps = reader.eps("layer_norm_eps", 1e-5);
  reader.model.final_norm = NormLayout::layer_norm("model.norm", eps);
  reader.model.context_limit = reader.count("max_position_embeddings", 4096);
  expect_equal(fields, {"hidden_size"}, reader.hidden);
  const Heads heads = read_heads(fields, reader.hidden, reader.rows(first + "q_proj.weight"),
                                 reader.rows(first + "k_proj.weight"));
  AttentionLayout attention{.d_model = reader.hidden,
                            .heads = heads.queries,
                            .kv_heads = heads.keys,
                            .head_dim = heads.channels,
                            .qkv_bias = reader.bias("use_qkv_bias", false, first + "q_proj.bias"),
                            .rope = reader.rope(heads.channels, 0.25)};
  if (fields.boolean("qk_layernorm", false))
    attention.qk_norm = QkNormLayout{.over = QkNormLayout::Over::kEachHead,
                                     .eps = eps,
                                     .centred = true,
                                     .q = "q_layernorm",
                                     .k = "k_layernorm"};
  DenseLayout dense{.d_model = reader.hidden,
                    .d_inner = reader.rows(reader.layer(0) + ".mlp.gate_proj.weight"),
                    .f = read_nonlinearity(fields, "hidden_act", "silu")};
  expect_equal(fields, {"intermediate_size"}, dense.d_inner);
  const bool in_parallel = fields.boolean("use_parallel_residual", false);
  for (int64_t i = 0; i < reader.num_layers; ++i) {
    const std::string name = reader.layer(i);
    attention.prefix = name + ".self_attn";
    dense.prefix = name + ".mlp";
    const NormLayout before = NormLayout::layer_norm(name + ".input_layernorm", eps);
    const NormLayout between = NormLayout::layer_norm(name + ".post_attention_layernorm", eps);
    // In parallel there is one norm.
    reader.model.blocks.push_back(
        {name, sublayers(in_parallel, before, in_parallel ? before : between, attention, dense)});
  }
  return reader.finish();
}

ModelLayout opt_layout(const WeightSource& source) {
  const std::string decoder = "model.decoder.";
  LayoutReader reader(source, "OPT", decoder + "embed_tokens.weight", decoder + "layers.", /*tied=*/true);
  JsonFields& fields = reader.fields;
  constexpr double eps = 1e-5;  // torch's: no key states it
  const std::string first = reader.layer(0) + ".self_attn.";
  const int64_t hidden = reader.rows(first + "out_proj.weight");
  expect_equal(fields, {"hidden_size"}, hidden);
  expect_equal(fields, {"word_embed_proj_dim"}, reader.hidden);
  if (reader.hidden != hidden) {
    reader.model.project_in = decoder + "project_in";
    reader.model.project_out = decoder + "project_out";
  }
  if (!fields.boolean("layer_norm_elementwise_affine", true))
    throw Error("config.json: layer_norm_elementwise_affine", "norms without gains are not supported");
  const bool norm_before = fields.boolean("do_layer_norm_before", true);
  if (norm_before && !fields.boolean("_remove_final_layer_norm", false))
    reader.model.final_norm = NormLayout::layer_norm(decoder + "final_layer_norm", eps);
  reader.model.positions = PositionsLayout{decoder + "embed_positions.weight", /*offset=*/2};
  reader.model.context_limit = reader.rows(reader.model.positions->weight) - reader.model.positions->offset;
  expect_equal(fields, {"max_position_embeddings"}, reader.model.context_limit);
  const Heads heads = read_heads(fields, hidden, reader.rows(first + "q_proj.weight"), hidden);
  const bool bias = reader.bias("enable_bias", true, first + "q_proj.bias");
  AttentionLayout attention{.d_model = hidden,
                            .heads = heads.queries,
                            .kv_heads = heads.keys,
                            .head_dim = heads.channels,
                            .qkv_bias = bias,
                            .o_bias = bias,
                            .o = "out_proj"};
  DenseLayout dense{.d_model = hidden,
                    .d_inner = reader.rows(reader.layer(0) + ".fc1.weight"),
                    .bias = bias,
                    .form = DenseLayout::Form::kPlain,
                    .f = read_nonlinearity(fields, "activation_function", "relu"),
                    .up = "fc1",
                    .down = "fc2"};
  expect_equal(fields, {"ffn_dim"}, dense.d_inner);
  const auto sublayer = [&](const std::string& norm, const PartLayout& part) {
    const NormLayout layout = NormLayout::layer_norm(norm, eps);
    if (norm_before) return pre_normed(layout, part);
    SublayerLayout bare;
    bare.branches = {{part, /*norm=*/-1}};
    bare.closing = layout;
    return bare;
  };
  for (int64_t i = 0; i < reader.num_layers; ++i) {
    const std::string name = reader.layer(i);
    attention.prefix = name + ".self_attn";
    dense.prefix = name;
    reader.model.blocks.push_back(
        {name,
         {sublayer(name + ".self_attn_layer_norm", attention), sublayer(name + ".final_layer_norm", dense)}});
  }
  return reader.finish({"init_std", "layerdrop"});
}

}  // namespace ptq
