#include "model/llama.h"

#include "model/llama_config.h"

namespace ptq {
namespace {

// Where the configuration leaves the number of key heads out, other programs take that of the queries.
void state_key_heads(const LlamaConfig& config, ModelLayout& model) {
  const char* const key = "num_key_value_heads";
  const bool stated = model.config.contains(key) && !model.config[key].is_null();
  if (stated || config.kv_heads == config.heads) return;
  model.config[key] = config.kv_heads;
  model.warnings.push_back(std::string("config.json: ") + key + " is missing; the tensors have " +
                           std::to_string(config.kv_heads) + " key heads, where other programs would take " +
                           std::to_string(config.heads));
}

}  // namespace

ModelLayout llama_layout(const WeightSource& source) {
  const LlamaConfig config = read_llama_config(source);
  ModelLayout model;
  model.embedding = "model.embed_tokens.weight";
  model.final_norm = NormLayout{"model.norm.weight", config.norm_eps};
  model.context_limit = config.context_limit;
  model.start_token = config.start_token;
  model.tied = config.tied;
  model.config = source.config();
  model.warnings = config.warnings;
  state_key_heads(config, model);
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i);
    AttentionLayout attention{.prefix = layer + ".self_attn",
                              .d_model = config.hidden,
                              .heads = config.heads,
                              .kv_heads = config.kv_heads,
                              .head_dim = config.head_dim,
                              .window = config.windows.at(static_cast<size_t>(i)),
                              .qkv_bias = config.qkv_bias,
                              .o_bias = config.o_bias,
                              .rope = config.rope};
    if (config.qk_norm) attention.qk_norm = QkNormLayout{.eps = config.norm_eps};
    const DenseLayout feed_forward{layer + ".mlp", config.hidden, config.intermediate, config.mlp_bias};
    model.blocks.push_back(
        {layer,
         {pre_normed({layer + ".input_layernorm.weight", config.norm_eps}, attention),
          pre_normed({layer + ".post_attention_layernorm.weight", config.norm_eps}, feed_forward)}});
  }
  return model;
}

}  // namespace ptq
