// Small Llama-like models with random weights.
#pragma once

#include <string>
#include <vector>

#include "toy_models.h"

namespace ptq::testing {

struct ToyLlama {
  int64_t hidden = 24;
  int64_t heads = 2;
  int64_t kv_heads = 1;
  int64_t intermediate = 40;
  int64_t layers = 2;
  int64_t vocab = 50;
  int64_t head_dim = 0;  // 0: hidden / heads, and not stated
  bool biases = false;   // of all linears, as the configuration says
  bool qk_norm = false;  // and the architecture is Qwen3's
  bool tied = true;
  uint64_t seed = 1;
};

// Makes the model another member of the family: "mistral" becomes MistralForCausalLM.
inline void declare(ToyModel& model, const std::string& type) {
  const std::map<std::string, const char*> classes = {{"llama", "LlamaForCausalLM"},
                                                      {"mistral", "MistralForCausalLM"},
                                                      {"qwen2", "Qwen2ForCausalLM"},
                                                      {"qwen3", "Qwen3ForCausalLM"}};
  model.config["model_type"] = type;
  model.config["architectures"] = {classes.at(type)};
}

// Qwen2: a Llama with biases of q, k and v alone.
inline void make_qwen2(ToyModel& model) {
  declare(model, "qwen2");
  for (int64_t i = 0; i < model.config["num_hidden_layers"].get<int64_t>(); ++i) {
    for (const char* linear : {"q_proj", "k_proj", "v_proj"}) {
      const std::string name = "model.layers." + std::to_string(i) + ".self_attn." + linear;
      const at::Tensor& weight = model.tensors.at(name + ".weight");
      model.tensors[name + ".bias"] = at::linspace(-0.3, 0.3, weight.size(0));
    }
  }
}

// As toy_mamba(): about unit gain, a few norm channels ten times larger, float32.
inline ToyModel toy_llama(const ToyLlama& sizes) {
  at::Generator generator = at::detail::createCPUGenerator(sizes.seed);
  const auto normal = [&](at::IntArrayRef shape, double deviation) {
    return at::randn(shape, generator) * deviation;
  };
  ToyModel model;
  TensorMap& tensors = model.tensors;
  const auto linear = [&](const std::string& name, int64_t out, int64_t in, double gain) {
    tensors[name + ".weight"] = normal({out, in}, gain / std::sqrt(static_cast<double>(in)));
    if (sizes.biases) tensors[name + ".bias"] = normal({out}, 0.2);
  };
  const int64_t d = sizes.hidden, F = sizes.intermediate;
  const int64_t D = sizes.head_dim == 0 ? d / sizes.heads : sizes.head_dim;
  const int64_t q_rows = sizes.heads * D, kv_rows = sizes.kv_heads * D;
  tensors["model.embed_tokens.weight"] = normal({sizes.vocab, d}, 1);
  tensors["model.norm.weight"] = at::ones({d});
  if (!sizes.tied) tensors["lm_head.weight"] = normal({sizes.vocab, d}, 1);
  for (int64_t i = 0; i < sizes.layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    const std::string attention = layer + "self_attn.";
    for (const char* norm : {"input_layernorm.weight", "post_attention_layernorm.weight"}) {
      at::Tensor gain = 1 + normal({d}, 0.1);
      gain.slice(0, 0, 2).mul_(10);
      tensors[layer + norm] = gain;
    }
    linear(attention + "q_proj", q_rows, d, 0.5);
    linear(attention + "k_proj", kv_rows, d, 0.5);
    linear(attention + "v_proj", kv_rows, d, 0.5);
    linear(attention + "o_proj", d, q_rows, 1);
    if (sizes.qk_norm) {
      tensors[attention + "q_norm.weight"] = 1 + normal({D}, 0.1);
      tensors[attention + "k_norm.weight"] = 1 + normal({D}, 0.1);
    }
    linear(layer + "mlp.gate_proj", F, d, 0.5);
    linear(layer + "mlp.up_proj", F, d, 0.5);
    linear(layer + "mlp.down_proj", d, F, 0.5);
  }
  model.config = {{"architectures", {sizes.qk_norm ? "Qwen3ForCausalLM" : "LlamaForCausalLM"}},
                  {"model_type", sizes.qk_norm ? "qwen3" : "llama"},
                  {"vocab_size", sizes.vocab},
                  {"hidden_size", d},
                  {"intermediate_size", F},
                  {"num_hidden_layers", sizes.layers},
                  {"num_attention_heads", sizes.heads},
                  {"num_key_value_heads", sizes.kv_heads},
                  {"hidden_act", "silu"},
                  {"rms_norm_eps", 1e-5},
                  {"max_position_embeddings", 128},
                  {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 10000.0}}},
                  {"tie_word_embeddings", sizes.tied},
                  {"bos_token_id", 1}};
  if (sizes.head_dim != 0) model.config["head_dim"] = D;
  if (sizes.biases) model.config["attention_bias"] = model.config["mlp_bias"] = true;
  return model;
}

// Models of odd sizes, with all that the family has.
inline std::vector<ToyModel> odd_llamas() {
  std::vector<ToyModel> models = {
      toy_llama({}), toy_llama({36, 3, 3, 96, 2}),
      toy_llama(
          {.hidden = 64, .heads = 4, .kv_heads = 2, .intermediate = 172, .biases = true, .tied = false}),
      toy_llama({.hidden = 36, .heads = 4, .kv_heads = 2, .head_dim = 10, .qk_norm = true})};
  for (const int64_t window : {1, 3, 5}) {
    ToyModel mistral = toy_llama({64, 4, 2, 96, 3});
    declare(mistral, "mistral");
    mistral.config["sliding_window"] = window;
    models.push_back(mistral);
  }
  ToyModel qwen = toy_llama({.layers = 3, .qk_norm = true});
  qwen.config["sliding_window"] = 4;
  qwen.config["use_sliding_window"] = true;
  qwen.config["layer_types"] = {"full_attention", "sliding_attention", "full_attention"};
  models.push_back(qwen);
  ToyModel yarn = toy_llama({});
  yarn.config["rope_parameters"] = {
      {"rope_type", "yarn"}, {"factor", 4}, {"original_max_position_embeddings", 8}};
  models.push_back(yarn);
  return models;
}

}  // namespace ptq::testing
