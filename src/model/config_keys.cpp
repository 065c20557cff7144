// The keys are those that transformers, mamba_ssm and the architectures of
// their models write into config.json.
#include "model/config_keys.h"

#include <algorithm>

#include "ptq/base/error.h"
#include "ptq/base/pattern.h"

namespace ptq {
namespace {

constexpr size_t kMostNamed = 8;
constexpr size_t kLongestValue = 60;

// Training, initialization, generation, and how a program runs the model: not what it computes.
constexpr const char* kHarmless[] = {
    "_*", "*dropout*", "*_pdrop", "*_token_id", "*_token_ids", "*_version", "*label*", "*_loss*",
    "*initializer*", "architectures", "model_type", "auto_map", "dtype", "torch_dtype", "quantization_config",
    "attn_implementation", "use_flash*", "flash_attn*", "gradient_checkpointing*", "torchscript",
    "use_bfloat16", "bf16", "fp16", "fp32", "tf_legacy_loss", "use_cache", "return_dict*", "output_*",
    "is_decoder", "chunk_size_feed_forward", "pretraining_tp", "unsloth*", "transformers*", "problem_type",
    "tokenizer_class", "prefix", "finetuning_task", "task_specific_params", "custom_pipelines",
    // how long texts were, and may be
    "max_sequence_length", "model_max_length", "tokenizer_model_max_length", "seq_length", "max_seq_len*",
    // transformers 4 wrote what belongs into generation_config.json here
    "max_length", "min_length", "max_new_tokens", "do_sample", "early_stopping", "num_beams",
    "num_beam_groups", "diversity_penalty", "temperature", "top_k", "top_p", "typical_p",
    "repetition_penalty", "length_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size",
    "bad_words_ids", "num_return_sequences", "remove_invalid_values", "exponential_decay_length_penalty",
    "suppress_tokens", "begin_suppress_tokens"};

const std::vector<RefusedKey>& refused_everywhere() {
  static const std::vector<RefusedKey> keys = {// scales
                                               {"embedding_multiplier", {1}},
                                               {"embedding_scale", {1}},
                                               {"scale_emb", {1}},
                                               {"scale_depth", {}},
                                               {"scale_embedding", {}},
                                               {"residual_multiplier", {1}},
                                               {"attention_multiplier", {}},
                                               {"query_pre_attn_scalar", {}},
                                               {"attention_scale", {}},
                                               {"attn_scale", {}},
                                               {"softmax_scale", {}},
                                               {"logit_scale", {1}},
                                               {"logits_scaling", {1}},
                                               {"lm_head_multiplier", {1}},
                                               {"key_multiplier", {1}},
                                               {"attention_in_multiplier", {1}},
                                               {"attention_out_multiplier", {1}},
                                               {"ssm_in_multiplier", {1}},
                                               {"ssm_out_multiplier", {1}},
                                               {"ssm_multipliers", {}},
                                               {"mlp_multipliers", {}},
                                               {"dim_model_base", {}},
                                               {"use_mup", {}},
                                               {"mup_denominator", {}},
                                               // attention
                                               {"attn_logit_softcapping", {0}},
                                               {"final_logit_softcapping", {0}},
                                               {"attn_logit_softcap", {0}},
                                               {"final_logit_softcap", {0}},
                                               {"is_causal", {true}},
                                               {"causal", {true}},
                                               {"scale_attn_weights", {true}},
                                               {"use_rope", {true}},
                                               {"use_bidirectional_attention", {}},
                                               {"clip_qkv", {}},
                                               {"alibi", {}},
                                               {"use_alibi", {}},
                                               {"position_embedding_type", {"rope", "rotary", "absolute"}},
                                               {"rotary_pct", {1}},
                                               {"rotary_dim", {}},
                                               {"rope_interleaved", {}},
                                               {"rope_local_base_freq", {}},
                                               {"rope_percent", {1}},
                                               {"no_rope_layers", {}},
                                               {"no_rope_layer_interval", {}},
                                               {"use_mrope", {}},
                                               {"qk_layernorm", {}},
                                               {"use_qk_norm", {}},
                                               {"qk_norm", {}},
                                               {"attention_chunk_size", {}},
                                               {"attn_temperature_tuning", {}},
                                               {"sliding_window_pattern", {}},
                                               {"cross_attention_layers", {}},
                                               {"kv_lora_rank", {}},
                                               {"q_lora_rank", {}},
                                               // what the blocks are
                                               {"num_experts", {0, 1}},
                                               {"num_local_experts", {0, 1}},
                                               {"n_routed_experts", {0, 1}},
                                               {"moe_num_experts", {0, 1}},
                                               {"n_shared_experts", {0}},
                                               {"num_shared_experts", {0}},
                                               {"use_parallel_residual", {}},
                                               {"parallel_residual", {}},
                                               {"parallel_attn", {}},
                                               {"do_layer_norm_before", {true}},
                                               {"norm_type", {"rms_norm", "rmsnorm", "RMSNorm"}},
                                               {"normalization_type", {"rms_norm", "rmsnorm", "RMSNorm"}},
                                               {"layers_block_type", {}},
                                               {"hybrid_override_pattern", {}},
                                               {"attn_layer_period", {}},
                                               {"attn_layer_indices", {}},
                                               {"attn_layer_idx", {}},
                                               {"d_intermediate", {0}},
                                               {"mixer_rms_eps", {}},
                                               {"pruned_heads", {}},
                                               {"add_cross_attention", {}},
                                               {"is_encoder_decoder", {}},
                                               // models of several parts, and weights that are not floats
                                               {"text_config", {}},
                                               {"vision_config", {}},
                                               {"audio_config", {}},
                                               {"compression_config", {}},
                                               {"sparsity_config", {}}};
  return keys;
}

bool matches_any(const std::string& key, const auto& patterns) {
  return std::any_of(std::begin(patterns), std::end(patterns),
                     [&](const char* pattern) { return matches_pattern(pattern, key); });
}

const RefusedKey* find_refused(const std::string& key, const std::vector<RefusedKey>& refused) {
  const auto found =
      std::find_if(refused.begin(), refused.end(), [&](const RefusedKey& row) { return key == row.name; });
  return found == refused.end() ? nullptr : &*found;
}

bool is_off(const Json& value) {
  return value.is_null() || value == false || (value.is_structured() && value.empty()) || value == "";
}

std::string shown(const Json& value) {
  const std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() <= kLongestValue) return text;
  size_t end = kLongestValue;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;  // no half of a character
  return text.substr(0, end) + "...";
}

}  // namespace

void check_config_keys(const Json& config, const ConfigKeys& keys, std::vector<std::string>& warnings) {
  if (!config.is_object()) return;
  std::string unknown;
  size_t count = 0;
  for (const auto& [key, value] : config.items()) {
    if (value.is_null() || matches_any(key, keys.done)) continue;
    const RefusedKey* refused = find_refused(key, keys.refused);
    if (refused == nullptr) refused = find_refused(key, refused_everywhere());
    const auto is_neutral = [&](const Json& wanted) {
      const auto& neutral = refused->neutral;
      return std::find(neutral.begin(), neutral.end(), wanted) != neutral.end();
    };
    // What is on in every model of the architecture is asked for by false.
    const bool asks = refused != nullptr && (!is_off(value) || is_neutral(true));
    if (is_off(value) && !asks) continue;
    if (asks) {
      if (is_neutral(value)) continue;
      throw Error("config.json: " + key,
                  "is " + shown(value) + ", which changes what the model computes and is not done here for " +
                      keys.architecture,
                  "--config with a configuration without it, if the weights were trained without it");
    }
    if (matches_any(key, keys.harmless) || matches_any(key, kHarmless)) continue;
    if (++count <= kMostNamed) unknown += (count == 1 ? "" : ", ") + shown(key);
  }
  if (count == 0) return;
  if (count > kMostNamed) unknown += " and " + std::to_string(count - kMostNamed) + " more";
  warnings.push_back("config.json: not known to this program and ignored: " + unknown);
}

void check_config_keys(const JsonFields& fields, const Json& config, const std::string& architecture,
                       const std::vector<const char*>& harmless, std::vector<std::string>& warnings) {
  ConfigKeys keys{architecture, {}, harmless};
  for (const std::string& key : fields.asked()) keys.done.push_back(key.c_str());
  check_config_keys(config, keys, warnings);
}

}  // namespace ptq
