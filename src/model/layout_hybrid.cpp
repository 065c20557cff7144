// Hybrids of Mamba-2 and attention: Bamba, Granite 4 (GraniteMoeHybridForCausalLM) and Falcon-H1 (arXiv
// 2507.22448), which has both in every block.
#include <algorithm>

#include "model/decoder_reader.h"
#include "model/layouts.h"
#include "model/mamba2_sizes.h"
#include "model/moe_reader.h"

namespace ptq {
namespace {

const char* const kMamba = "linear_attention";
const char* const kAttention = "full_attention";

// As all three spell what they say of their mixers.
Mamba2Words mixer_words(const char* out_bias) {
  return {.heads = {"mamba_n_heads"},
          .head_dim = {"mamba_d_head"},
          .state = {"mamba_d_state"},
          .groups = {"mamba_n_groups"},
          .conv = {"mamba_d_conv"},
          .inner = {"mamba_d_ssm"},
          .default_state = 256,
          .default_groups = 1,
          .in_bias = "mamba_proj_bias",
          .out_bias = out_bias,
          .conv_bias = "mamba_conv_bias",
          .limits = "time_step_limit"};
}

Mamba2Layout read_mixer(DecoderReader& reader, const std::string& prefix) {
  Mamba2Layout mixer = read_mamba2_sizes(reader.source(), prefix, reader.hidden, reader.fields,
                                         mixer_words("mamba_proj_bias"));
  mixer.norm = {reader.norm_eps, mixer.groups};
  return mixer;
}

// Words that choose an implementation, training, or repeat what shapes say.
const std::vector<const char*> kHarmless = {
    "mamba_chunk_size",       "mamba_expand",         "num_logits_to_keep",  "init_method",
    "normalization_function", "router_aux_loss_coef", "output_router_logits"};

AttentionLayout bamba_attention(DecoderReader& reader, const std::string& prefix) {
  AttentionLayout attention = reader.attention(
      prefix, reader.bias("attention_bias", false, prefix + ".q_proj.bias"), /*rotates=*/false);
  attention.rope = reader.rope(attention.head_dim, 0.5);
  expect_equal(reader.fields, {"attn_rotary_emb"}, 2 * attention.rope->frequencies.size(0));
  return attention;
}

}  // namespace

ModelLayout bamba_layout(const WeightSource& source) {
  DecoderReader reader(source, "Bamba", 1e-5, 262144, /*tied=*/false, "model.final_layernorm");
  const std::vector<bool> attends = reader.listed_layers("attn_layer_indices");
  for (int64_t i = 0; i < reader.num_layers; ++i) {
    const std::string name = reader.layer(i);
    PartLayout mixer;
    if (attends[static_cast<size_t>(i)])
      mixer = bamba_attention(reader, name + ".self_attn");
    else
      mixer = read_mixer(reader, name + ".mamba");
    reader.model.blocks.push_back(
        {name,
         {pre_normed(reader.norm(name + ".input_layernorm"), mixer),
          pre_normed(reader.norm(name + ".pre_ff_layernorm"), reader.feed_forward(name + ".feed_forward"))}});
  }
  return reader.finish(kHarmless);
}

namespace {

// The mixture that all layers of a Granite 4 have, unless it is a dense one: joined experts.
MoeLayout granite_moe(DecoderReader& reader, const std::string& prefix, int64_t chosen) {
  const std::string router = prefix + ".router.layer";
  MoeLayout moe{.prefix = prefix, .d_model = reader.hidden, .router = {.name = router, .chosen = chosen}};
  moe.router.score = RouterLayout::Score::kSoftmaxOfChosen;
  const int64_t count = read_expert_count(reader, router, chosen);
  const int64_t d_inner = reader.rows(prefix + ".input_linear.0.weight") / 2;
  expect_equal(reader.fields, {"intermediate_size"}, d_inner);
  for (int64_t e = 0; e < count; ++e) {
    moe.experts.push_back({.prefix = prefix,
                           .d_model = reader.hidden,
                           .d_inner = d_inner,
                           .form = DenseLayout::Form::kJoined,
                           .f = reader.f,
                           .up = "input_linear." + std::to_string(e),
                           .down = "output_linear." + std::to_string(e)});
  }
  return moe;
}

// The feed-forward that all layers have.
DenseLayout granite_shared(DecoderReader& reader, const std::string& prefix) {
  const int64_t d_inner = reader.rows(prefix + ".input_linear.weight") / 2;
  expect_equal(reader.fields, {"shared_intermediate_size"}, d_inner);
  return {.prefix = prefix,
          .d_model = reader.hidden,
          .d_inner = d_inner,
          .form = DenseLayout::Form::kJoined,
          .f = reader.f,
          .up = "input_linear",
          .down = "output_linear"};
}

AttentionLayout granite_attention(DecoderReader& reader, const std::string& prefix) {
  JsonFields& fields = reader.fields;
  const std::string positions = fields.string("position_embedding_type", "nope");
  if (positions != "rope" && positions != "nope")
    throw Error("config.json: position_embedding_type", Json(positions).dump() + " is not supported",
                "\"rope\" or \"nope\"");
  for (const char* key : kRopeKeys) fields.has(key);
  AttentionLayout attention =
      reader.attention(prefix, reader.bias("attention_bias", false, prefix + ".q_proj.bias"),
                       /*rotates=*/positions == "rope");
  attention.scale = reader.positive("attention_multiplier", 1);
  return attention;
}

}  // namespace

ModelLayout granite4_layout(const WeightSource& source) {
  DecoderReader reader(source, "Granite 4", 1e-6, 2048);
  const double residual = reader.positive("residual_multiplier", 1);
  reader.model.embedding_scale = reader.positive("embedding_multiplier", 1);
  reader.model.logits_scale = 1 / reader.positive("logits_scaling", 1);
  const std::vector<std::string> types = reader.layer_types("layer_types", {kMamba, kAttention});
  if (types.empty()) reader.fields.at("layer_types");  // throws
  const bool has_experts = reader.fields.integer("num_local_experts", 8) > 0;
  const int64_t chosen = reader.count("num_experts_per_tok", 2);
  for (int64_t i = 0; i < reader.num_layers; ++i) {
    const std::string name = reader.layer(i);
    PartLayout mixer;
    if (types[static_cast<size_t>(i)] == kAttention)
      mixer = granite_attention(reader, name + ".self_attn");
    else
      mixer = read_mixer(reader, name + ".mamba");
    SublayerLayout first = pre_normed(reader.norm(name + ".input_layernorm"), mixer);
    SublayerLayout second = pre_normed(reader.norm(name + ".post_attention_layernorm"),
                                       granite_shared(reader, name + ".shared_mlp"));
    if (has_experts) second.branches.push_back({granite_moe(reader, name + ".block_sparse_moe", chosen)});
    first.residual_scale = second.residual_scale = residual;
    reader.model.blocks.push_back({name, {first, second}});
  }
  if (!has_experts) reader.fields.has("intermediate_size");  // of experts that there are not
  return reader.finish(kHarmless);
}

namespace {

Mamba2Layout falcon_mixer(DecoderReader& reader, const std::string& prefix) {
  Mamba2Layout mixer = read_mamba2_sizes(reader.source(), prefix, reader.hidden, reader.fields,
                                         mixer_words("projectors_bias"));
  const bool before_gate = reader.fields.boolean("mamba_norm_before_gate", true);
  if (reader.fields.boolean("mamba_rms_norm", false))
    mixer.norm = {reader.norm_eps, mixer.groups, before_gate};
  const std::vector<double> multipliers = reader.numbers("ssm_multipliers", mixer.multipliers.size());
  std::copy(multipliers.begin(), multipliers.end(), mixer.multipliers.begin());
  return mixer;
}

}  // namespace

ModelLayout falcon_h1_layout(const WeightSource& source) {
  DecoderReader reader(source, "Falcon-H1", 1e-5, 8192, /*tied=*/false, "model.final_layernorm");
  reader.model.embedding_scale = reader.positive("embedding_multiplier", 1);
  reader.model.logits_scale = reader.positive("lm_head_multiplier", 1);
  const double ssm_in = reader.positive("ssm_in_multiplier", 1);
  const double ssm_out = reader.positive("ssm_out_multiplier", 1);
  const double attention_in = reader.positive("attention_in_multiplier", 1);
  const double attention_out = reader.positive("attention_out_multiplier", 1);
  const std::vector<double> dense_scales = reader.numbers("mlp_multipliers", 2);
  const double key_scale = reader.positive("key_multiplier", 1);
  for (int64_t i = 0; i < reader.num_layers; ++i) {
    const std::string name = reader.layer(i), attended = name + ".self_attn";
    AttentionLayout attention =
        reader.attention(attended, reader.bias("attention_bias", false, attended + ".q_proj.bias"));
    attention.key_scale = key_scale;
    SublayerLayout first;
    first.norms = {reader.norm(name + ".input_layernorm")};
    first.branches = {{falcon_mixer(reader, name + ".mamba"), 0, ssm_in, ssm_out},
                      {attention, 0, attention_in, attention_out}};
    DenseLayout dense = reader.feed_forward(name + ".feed_forward");
    dense.gate_scale = dense_scales[0];
    SublayerLayout second = pre_normed(reader.norm(name + ".pre_ff_layernorm"), dense);
    second.branches[0].out_scale = dense_scales[1];
    reader.model.blocks.push_back({name, {first, second}});
  }
  return reader.finish(kHarmless);
}

}  // namespace ptq
