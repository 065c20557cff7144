// The rows: what llama.cpp's loader and graphs of each architecture expect.
#include <cmath>

#include "export/gguf/architectures.h"
#include "ptq/base/error.h"

namespace ptq {
namespace {

using Kind = GgufKey::Kind;

std::vector<GgufName> with(std::vector<GgufName> names, const std::vector<GgufName>& more) {
  names.insert(names.end(), more.begin(), more.end());
  return names;
}

std::vector<GgufKey> with(std::vector<GgufKey> keys, const std::vector<GgufKey>& more) {
  keys.insert(keys.end(), more.begin(), more.end());
  return keys;
}

// Of every transformer.
std::vector<GgufKey> transformer_keys() {
  return {{"context_length", "max_position_embeddings"},
          {"embedding_length", "hidden_size"},
          {"block_count", "num_hidden_layers"},
          {"feed_forward_length", "intermediate_size"},
          {"attention.head_count", "num_attention_heads"},
          {"attention.head_count_kv", "num_key_value_heads"},
          {"attention.key_length", "head_dim"},
          {"attention.value_length", "head_dim", Kind::kInteger, false},
          {"vocab_size", "vocab_size", Kind::kInteger, false}};
}

// Of those whose rope turns every channel of a head, and whose norms are RMSNorm.
std::vector<GgufKey> rms_keys() {
  return with(transformer_keys(), {{"rope.dimension_count", "head_dim", Kind::kInteger, false},
                                   {"attention.layer_norm_rms_epsilon", "rms_norm_eps", Kind::kReal}});
}

std::vector<GgufName> attention_names(GgufChange queries, GgufChange keys) {
  return {{"self_attn.q_proj.weight", "attn_q.weight", queries},
          {"self_attn.q_proj.bias", "attn_q.bias", queries},
          {"self_attn.k_proj.weight", "attn_k.weight", keys},
          {"self_attn.k_proj.bias", "attn_k.bias", keys},
          {"self_attn.v_proj.weight", "attn_v.weight"},
          {"self_attn.v_proj.bias", "attn_v.bias"},
          {"self_attn.o_proj.weight", "attn_output.weight"}};
}

std::vector<GgufName> feed_forward_names() {
  return {{"mlp.gate_proj.weight", "ffn_gate.weight"},
          {"mlp.up_proj.weight", "ffn_up.weight"},
          {"mlp.down_proj.weight", "ffn_down.weight"}};
}

// A norm before each of the two parts.
std::vector<GgufName> pre_norms() {
  return {{"input_layernorm.weight", "attn_norm.weight"},
          {"post_attention_layernorm.weight", "ffn_norm.weight"}};
}

std::vector<GgufName> transformer_block(GgufChange queries, GgufChange keys) {
  return with(with(pre_norms(), attention_names(queries, keys)), feed_forward_names());
}

const std::vector<GgufName> kTransformerOuter = {{"model.embed_tokens.weight", "token_embd.weight"},
                                                 {"model.norm.weight", "output_norm.weight"},
                                                 {"lm_head.weight", "output.weight"}};
// Only queries and keys of "llama" and its closest kin are rotated in neighbouring pairs.
const GgufChange kPaired = GgufChange::kQueryRows, kPairedKeys = GgufChange::kKeyRows;
const GgufChange kAsIs = GgufChange::kNone;

const std::vector<GgufName> kLlamaBiases = {{"self_attn.o_proj.bias", "attn_output.bias"},
                                            {"mlp.gate_proj.bias", "ffn_gate.bias"},
                                            {"mlp.up_proj.bias", "ffn_up.bias"},
                                            {"mlp.down_proj.bias", "ffn_down.bias"}};

Json base_config(const char* model_class, const char* type) {
  return {{"architectures", {model_class}}, {"model_type", type}, {"hidden_act", "silu"}};
}

// A transformer of the usual names, to be changed where it is not one.
GgufArchitecture decoder(const char* name, const char* own, const char* model_class) {
  GgufArchitecture row;
  row.name = name;
  row.own = own;
  row.model_class = model_class;
  row.types = {name};
  row.blocks = "model.layers.";
  row.block = transformer_block(kAsIs, kAsIs);
  row.outer = kTransformerOuter;
  row.keys = rms_keys();
  row.sizes = {{"intermediate_size", "ffn_gate.weight", 0}};
  row.config = base_config(model_class, name);
  return row;
}

GgufArchitecture llama() {
  GgufArchitecture row = decoder("llama", "llama", "LlamaForCausalLM");
  row.types = {"llama", "mistral"};
  row.block = with(transformer_block(kPaired, kPairedKeys), kLlamaBiases);
  row.flags = {{"attention_bias", "blk.0.attn_q.bias"}, {"mlp_bias", "blk.0.ffn_gate.bias"}};
  return row;
}

GgufArchitecture qwen2() {
  return decoder("qwen2", "llama", "Qwen2ForCausalLM");
}

GgufArchitecture qwen3() {
  GgufArchitecture row = decoder("qwen3", "llama", "Qwen3ForCausalLM");
  row.block = with(row.block, {{"self_attn.q_norm.weight", "attn_q_norm.weight"},
                               {"self_attn.k_norm.weight", "attn_k_norm.weight"}});
  row.flags = {{"attention_bias", "blk.0.attn_q.bias"}};
  return row;
}

GgufArchitecture granite() {
  GgufArchitecture row = decoder("granite", "granite", "GraniteForCausalLM");
  row.block = with(transformer_block(kPaired, kPairedKeys), kLlamaBiases);
  row.flags = {{"attention_bias", "blk.0.attn_q.bias"}, {"mlp_bias", "blk.0.ffn_gate.bias"}};
  row.keys = with(row.keys, {{"attention.scale", "attention_multiplier", Kind::kReal, true, 1.0},
                             {"embedding_scale", "embedding_multiplier", Kind::kReal, true, 1.0},
                             {"residual_scale", "residual_multiplier", Kind::kReal, true, 1.0},
                             {"logit_scale", "logits_scaling", Kind::kReal, true, 1.0}});
  return row;
}

GgufArchitecture olmo2() {
  GgufArchitecture row = decoder("olmo2", "olmo2", "Olmo2ForCausalLM");
  row.block = with(with(attention_names(kAsIs, kAsIs), feed_forward_names()),
                   {{"self_attn.q_norm.weight", "attn_q_norm.weight"},
                    {"self_attn.k_norm.weight", "attn_k_norm.weight"},
                    {"post_attention_layernorm.weight", "post_attention_norm.weight"},
                    {"post_feedforward_layernorm.weight", "post_ffw_norm.weight"}});
  return row;
}

GgufArchitecture phi3() {
  GgufArchitecture row = decoder("phi3", "phi3", "Phi3ForCausalLM");
  row.block = with(pre_norms(), {{"self_attn.qkv_proj.weight", "attn_qkv.weight"},
                                 {"self_attn.o_proj.weight", "attn_output.weight"},
                                 {"mlp.gate_up_proj.weight", "ffn_up.weight"},
                                 {"mlp.down_proj.weight", "ffn_down.weight"}});
  row.keys = with(transformer_keys(), {{"rope.dimension_count", "rotary_dim"},
                                       {"attention.layer_norm_rms_epsilon", "rms_norm_eps", Kind::kReal}});
  row.sizes = {{"intermediate_size", "ffn_down.weight", 1}};
  return row;
}

// Its graph scales queries by what the number of layers stands for among the published models.
void check_gemma2(const Json& config, std::vector<std::string>&) {
  constexpr int64_t kLayersOf27b = 46;
  const auto number = [&](const char* key, double otherwise) {
    return config.value(key, Json(otherwise)).get<double>();
  };
  const double head_dim = number("head_dim", 0), layers = number("num_hidden_layers", 0);
  const double expected =
      layers == kLayersOf27b ? number("hidden_size", 0) / number("num_attention_heads", 1) : head_dim;
  const double scalar = number("query_pre_attn_scalar", 256);
  if (scalar != expected) {
    throw Error("config.json",
                "query_pre_attn_scalar is " + Json(scalar).dump() + ", and llama.cpp computes with " +
                    Json(expected).dump(),
                "another --format");
  }
  for (const char* key : {"attn_logit_softcapping", "final_logit_softcapping"}) {
    if (!config.contains(key) || !config.at(key).is_null()) continue;
    throw Error("config.json",
                std::string(key) + " is off, and llama.cpp always caps the logits of a Gemma 2",
                "another --format");
  }
  const Json types = config.value("layer_types", Json::array());
  for (size_t i = 0; i < types.size(); ++i) {
    if (types[i] == (i % 2 == 0 ? "sliding_attention" : "full_attention")) continue;
    throw Error("config.json", "layer_types do not take turns, as llama.cpp has them", "another --format");
  }
}

GgufArchitecture gemma2() {
  const GgufChange gain = GgufChange::kGain;
  GgufArchitecture row = decoder("gemma2", "gemma2", "Gemma2ForCausalLM");
  row.block = with(with(attention_names(kAsIs, kAsIs), feed_forward_names()),
                   {{"input_layernorm.weight", "attn_norm.weight", gain},
                    {"post_attention_layernorm.weight", "post_attention_norm.weight", gain},
                    {"pre_feedforward_layernorm.weight", "ffn_norm.weight", gain},
                    {"post_feedforward_layernorm.weight", "post_ffw_norm.weight", gain}});
  row.outer = {{"model.embed_tokens.weight", "token_embd.weight"},
               {"model.norm.weight", "output_norm.weight", gain}};
  row.keys =
      with(row.keys, {{"attention.sliding_window", "sliding_window", Kind::kInteger, true, 4096},
                      {"attn_logit_softcapping", "attn_logit_softcapping", Kind::kReal, true, 50.0},
                      {"final_logit_softcapping", "final_logit_softcapping", Kind::kReal, true, 30.0}});
  row.config = {{"architectures", {"Gemma2ForCausalLM"}},
                {"model_type", "gemma2"},
                {"hidden_activation", "gelu_pytorch_tanh"}};
  row.check = check_gemma2;
  row.complete = [](Json& config) {
    constexpr int64_t kLayersOf27b = 46;
    config["query_pre_attn_scalar"] =
        config.at("num_hidden_layers") == kLayersOf27b
            ? config.at("hidden_size").get<int64_t>() / config.at("num_attention_heads").get<int64_t>()
            : config.at("head_dim").get<int64_t>();
  };
  return row;
}

void expect_own_head(const Json& config) {
  if (config.value("tie_word_embeddings", Json(false)) != true) return;
  throw Error("config.json",
              "the head is the embedding, and llama.cpp has no such model of this architecture",
              "another --format");
}

std::vector<GgufName> norm_biases() {
  return {{"input_layernorm.bias", "attn_norm.bias"}, {"post_attention_layernorm.bias", "ffn_norm.bias"}};
}

// Of those with LayerNorm, and a rope that turns a part of each head.
std::vector<GgufKey> layer_norm_keys() {
  return with(transformer_keys(),
              {{"rope.dimension_count", "rotary_dim"},
               {"attention.layer_norm_epsilon", "layer_norm_eps", Kind::kReal, true, 1e-5},
               {"use_parallel_residual", "use_parallel_residual", Kind::kFlag}});
}

GgufArchitecture stablelm() {
  GgufArchitecture row = decoder("stablelm", "stablelm", "StableLmForCausalLM");
  row.block = with(row.block, norm_biases());
  row.outer = with(kTransformerOuter, {{"model.norm.bias", "output_norm.bias"}});
  row.keys = layer_norm_keys();
  row.usual_rotary_part = 0.25;
  row.flags = {{"use_qkv_bias", "blk.0.attn_q.bias"}};
  row.check = [](const Json& config, std::vector<std::string>&) { expect_own_head(config); };
  return row;
}

GgufArchitecture gpt_neox() {
  const GgufChange joined = GgufChange::kJoinedRows;
  GgufArchitecture row = decoder("gptneox", "gpt-neox", "GPTNeoXForCausalLM");
  row.types = {"gpt_neox"};
  row.blocks = "gpt_neox.layers.";
  row.block =
      with(with(pre_norms(), norm_biases()), {{"attention.query_key_value.weight", "attn_qkv.weight", joined},
                                              {"attention.query_key_value.bias", "attn_qkv.bias", joined},
                                              {"attention.dense.weight", "attn_output.weight"},
                                              {"attention.dense.bias", "attn_output.bias"},
                                              {"mlp.dense_h_to_4h.weight", "ffn_up.weight"},
                                              {"mlp.dense_h_to_4h.bias", "ffn_up.bias"},
                                              {"mlp.dense_4h_to_h.weight", "ffn_down.weight"},
                                              {"mlp.dense_4h_to_h.bias", "ffn_down.bias"}});
  row.outer = {{"gpt_neox.embed_in.weight", "token_embd.weight"},
               {"gpt_neox.final_layer_norm.weight", "output_norm.weight"},
               {"gpt_neox.final_layer_norm.bias", "output_norm.bias"},
               {"embed_out.weight", "output.weight"}};
  row.keys = layer_norm_keys();
  row.sizes = {{"intermediate_size", "ffn_up.weight", 0}};
  row.usual_rotary_part = 0.25;
  row.usual_parallel_residual = true;
  row.config = {
      {"architectures", {"GPTNeoXForCausalLM"}}, {"model_type", "gpt_neox"}, {"hidden_act", "gelu"}};
  row.check = [](const Json& config, std::vector<std::string>& notes) {
    expect_own_head(config);
    if (config.value("hidden_act", Json("gelu")) == "gelu")
      notes.emplace_back("llama.cpp computes GELU by its tanh form");
  };
  return row;
}

// Of both kinds of Mamba. A state has no end; llama.cpp's converter says 2^20.
GgufArchitecture state_space(const char* name, const char* model_class) {
  GgufArchitecture row;
  row.name = row.own = name;
  row.model_class = model_class;
  row.types = {name};
  row.blocks = "backbone.layers.";
  row.block = {{"norm.weight", "attn_norm.weight"},
               {"mixer.in_proj.weight", "ssm_in.weight"},
               {"mixer.conv1d.weight", "ssm_conv1d.weight", GgufChange::kSqueeze},
               {"mixer.conv1d.bias", "ssm_conv1d.bias"},
               {"mixer.out_proj.weight", "ssm_out.weight"}};
  row.outer = {{"backbone.embeddings.weight", "token_embd.weight"},
               {"backbone.embedding.weight", "token_embd.weight"},
               {"backbone.norm_f.weight", "output_norm.weight"},
               {"lm_head.weight", "output.weight"}};
  row.keys = {{"embedding_length", "hidden_size"},
              {"block_count", "num_hidden_layers"},
              {"ssm.conv_kernel", "conv_kernel"},
              {"ssm.inner_size", "intermediate_size"},
              {"ssm.state_size", "state_size", Kind::kInteger, true, 128},
              {"attention.layer_norm_rms_epsilon", "layer_norm_epsilon", Kind::kReal, true, 1e-5},
              {"vocab_size", "vocab_size", Kind::kInteger, false}};
  row.sizes = {{"conv_kernel", "ssm_conv1d.weight", 2}};
  row.flags = {{"use_conv_bias", "blk.0.ssm_conv1d.bias"}};
  row.constants = {{"context_length", 1 << 20}, {"feed_forward_length", 0}, {"attention.head_count", 0}};
  row.config = base_config(model_class, name);
  return row;
}

GgufArchitecture mamba() {
  GgufArchitecture row = state_space("mamba", "MambaForCausalLM");
  row.block = with(row.block, {{"mixer.x_proj.weight", "ssm_x.weight"},
                               {"mixer.dt_proj.weight", "ssm_dt.weight"},
                               {"mixer.dt_proj.bias", "ssm_dt.bias"},
                               {"mixer.A_log", "ssm_a", GgufChange::kDecay},
                               {"mixer.D", "ssm_d"}});
  row.keys = with(row.keys, {{"ssm.time_step_rank", "time_step_rank"}});
  row.sizes.push_back({"intermediate_size", "ssm_a", 0});
  row.sizes.push_back({"state_size", "ssm_a", 1});
  row.sizes.push_back({"time_step_rank", "ssm_dt.weight", 1});
  return row;
}

// A Mamba whose dt, B and C are normed.
GgufArchitecture falcon_mamba() {
  GgufArchitecture row = mamba();
  row.own = "falcon-mamba";
  row.model_class = "FalconMambaForCausalLM";
  row.types = {"falcon_mamba"};
  row.variant = "ssm.dt_b_c_rms";
  row.config = base_config("FalconMambaForCausalLM", "falcon_mamba");
  row.check = [](const Json& config, std::vector<std::string>& notes) {
    const double inner = config.value("mixer_rms_eps", Json(1e-6)).get<double>(),
                 outer = config.at("layer_norm_epsilon").get<double>();
    if (inner != outer) {
      notes.push_back("llama.cpp has one epsilon for all norms: " + Json(outer).dump() +
                      " also for dt, B and C, whose own is " + Json(inner).dump());
    }
  };
  row.complete = [](Json& config) { config["mixer_rms_eps"] = config.at("layer_norm_epsilon"); };
  return row;
}

GgufArchitecture mamba2() {
  GgufArchitecture row = state_space("mamba2", "Mamba2ForCausalLM");
  row.block = with(row.block, {{"mixer.dt_bias", "ssm_dt.bias"},
                               {"mixer.A_log", "ssm_a", GgufChange::kHeadDecay},
                               {"mixer.D", "ssm_d", GgufChange::kHeads},
                               {"mixer.norm.weight", "ssm_norm.weight", GgufChange::kGroups}});
  row.keys = with(row.keys, {{"ssm.time_step_rank", "num_heads"},
                             {"ssm.group_count", "n_groups", Kind::kInteger, true, 8}});
  row.sizes.push_back({"num_heads", "ssm_a", 0});
  row.sizes.push_back({"intermediate_size", "ssm_norm.weight", 0});
  row.check = [](const Json& config, std::vector<std::string>&) {
    if (!config.contains("intermediate_size"))  // of which the norm's gain tells
      throw Error("config.json", "the mixers have no gated norm, and llama.cpp's Mamba-2 has one",
                  "another --format");
    const Json limits = config.value("time_step_limit", Json());
    // No end is spelled as a word in configurations.
    const auto is_end = [](const Json& limit) {
      return limit.is_number() && std::isfinite(limit.get<double>());
    };
    const bool open = !limits.is_array() || (limits.size() == 2 && limits[0] == 0.0 && !is_end(limits[1]));
    if (!open) {
      throw Error("config.json", "time_step_limit is " + limits.dump() + ", and llama.cpp has no such limits",
                  "another --format");
    }
  };
  row.complete = [](Json& config) {
    const auto heads = config.at("num_heads").get<int64_t>(),
               inner = config.at("intermediate_size").get<int64_t>();
    if (heads > 0 && inner % heads == 0) config["head_dim"] = inner / heads;
    const auto hidden = config.at("hidden_size").get<int64_t>();
    if (hidden > 0 && inner % hidden == 0) config["expand"] = inner / hidden;
  };
  return row;
}

}  // namespace

const std::vector<GgufArchitecture>& gguf_architectures() {
  static const std::vector<GgufArchitecture> all = {llama(),    qwen2(), qwen3(),        granite(),
                                                    olmo2(),    phi3(),  gemma2(),       stablelm(),
                                                    gpt_neox(), mamba(), falcon_mamba(), mamba2()};
  return all;
}

}  // namespace ptq
