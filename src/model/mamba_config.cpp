#include "model/mamba_config.h"

#include <algorithm>
#include <limits>

#include "model/config_keys.h"
#include "model/mamba_words.h"
#include "model/outer_weights.h"
#include "ptq/model/model.h"

namespace ptq {
namespace {

const std::string kFirst = "backbone.layers.0.mixer", kFirstMixer = kFirst + ".";

// Hugging Face's words and state-spaces'. The harmless ones choose an implementation, or initial weights.
const ConfigKeys& keys() {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  static const ConfigKeys all = {
      "Mamba-1",
      {"vocab_size",
       "pad_vocab_size_multiple",
       "hidden_size",
       "d_model",
       "num_hidden_layers",
       "n_layer",
       "state_size",
       "conv_kernel",
       "intermediate_size",
       "d_inner",
       "expand",
       "time_step_rank",
       "hidden_act",
       "layer_norm_epsilon",
       "rms_norm",
       "use_bias",
       "use_conv_bias",
       "tie_word_embeddings",
       "tie_embeddings",
       "bos_token_id",
       "ssm_cfg"},
      {"residual_in_fp32", "fused_add_norm", "rescale_prenorm_residual", "time_step_min", "time_step_max",
       "time_step_floor", "time_step_scale", "time_step_init_scheme", "use_mambapy", "use_associative_scan",
       "use_mamba_kernels", "attn_cfg"},
      {{"time_step_limit",
        {Json::array({0, infinity}), Json::array({0, Json({{"__float__", "Infinity"}})})}}}};
  return all;
}

// The words of state-spaces' ssm_cfg. Those not read here choose initial weights or an implementation.
constexpr const char* kSsmKeys[] = {"layer",   "d_state",   "d_conv",        "expand",        "dt_rank",
                                    "bias",    "conv_bias", "d_model",       "dt_min",        "dt_max",
                                    "dt_init", "dt_scale",  "dt_init_floor", "use_fast_path", "device",
                                    "dtype",   "layer_idx"};

void check_rank(JsonFields& fields, const char* key, const MambaConfig& config) {
  expect_equal(fields, {key}, config.dt_rank);
  const int64_t automatic = (config.d_model + 15) / 16;
  if (!fields.has(key) || fields.at(key) != "auto" || config.dt_rank == automatic) return;
  throw Error(config_place(fields, key), "is \"auto\", which is " + std::to_string(automatic) +
                                             ", but the tensors' shapes say " +
                                             std::to_string(config.dt_rank));
}

// What state-spaces' code gives to each of its layers. Of biases Hugging Face's words decide, where there are
// any.
void check_ssm_cfg(const WeightSource& source, const Json& object, bool decides_biases, MambaConfig& config) {
  JsonFields fields(object, "config.json: ssm_cfg");
  if (const std::string layer = fields.string("layer", "Mamba1"); layer != "Mamba1") {
    throw Error(config_place(fields, "layer"), "the configuration says " + Json(layer).dump() +
                                                   ", and the tensors are named as Mamba-1's are");
  }
  expect_equal(fields, {"d_state"}, config.d_state);
  expect_equal(fields, {"d_conv"}, config.d_conv);
  check_mamba_expand(fields, config.d_model, config.d_inner);
  check_rank(fields, "dt_rank", config);
  if (decides_biases) {
    config.linear_bias = reads_bias(source, fields, "bias", false, kFirstMixer + "in_proj.bias");
    config.conv_bias = reads_bias(source, fields, "conv_bias", true, kFirstMixer + "conv1d.bias");
  }
  for (const auto& [key, value] : object.items()) {
    if (std::find(std::begin(kSsmKeys), std::end(kSsmKeys), key) == std::end(kSsmKeys))
      throw Error(config_place(fields, key), "is not an option of Mamba-1's layers");
  }
}

void check_biases(const WeightSource& source, JsonFields& fields, bool is_hugging_face, MambaConfig& config) {
  const std::string linear = kFirstMixer + "in_proj.bias", conv = kFirstMixer + "conv1d.bias";
  const bool none_known = !is_hugging_face;  // neither model: what is stored tells
  config.linear_bias =
      reads_bias(source, fields, "use_bias", none_known && source.find(linear) != nullptr, linear);
  config.conv_bias =
      reads_bias(source, fields, "use_conv_bias", !none_known || source.find(conv) != nullptr, conv);
}

void check_configuration(const WeightSource& source, MambaConfig& config) {
  const Json& json = source.config();
  check_config_keys(json, keys(), config.warnings);
  static const Json nothing = Json::object();
  JsonFields fields(json.is_object() ? json : nothing, "config.json");
  const bool is_hugging_face = !declared_architectures(json).empty();
  expect_equal(fields, {"hidden_size", "d_model"}, config.d_model);
  expect_equal(fields, {"state_size"}, config.d_state);
  expect_equal(fields, {"conv_kernel"}, config.d_conv);
  expect_equal(fields, {"intermediate_size", "d_inner"}, config.d_inner);
  check_rank(fields, "time_step_rank", config);
  check_mamba_expand(fields, config.d_model, config.d_inner);
  check_mamba_vocabulary(fields, !is_hugging_face, config.vocab_size);
  expect_silu(fields, "Mamba");
  expect_rms_norm(fields);
  const Json no_ssm_cfg = Json::object();
  const Json& ssm_cfg = fields.has("ssm_cfg") ? fields.at("ssm_cfg") : no_ssm_cfg;
  const bool is_state_spaces = !is_hugging_face && (fields.has("d_model") || fields.has("ssm_cfg"));
  check_ssm_cfg(source, ssm_cfg, is_state_spaces, config);
  if (!is_state_spaces) check_biases(source, fields, is_hugging_face, config);
  config.norm_eps = read_mamba_eps(fields, config.norm_eps);
  config.start_token = StartToken(fields, config.vocab_size);
  config.tied =
      states_tied_head(json, is_hugging_face || is_state_spaces ? std::optional(true) : std::nullopt);
}

}  // namespace

bool has_mamba_tensors(const WeightSource& source) {
  return source.find(kFirstMixer + "in_proj.weight") != nullptr &&
         source.find(kFirstMixer + "x_proj.weight") != nullptr &&
         source.find(kFirstMixer + "A_log") != nullptr;
}

MambaConfig read_mamba_config(const WeightSource& source) {
  MambaConfig config;
  config.embedding = mamba_embedding(source);
  config.num_layers =
      count_layers(source, "backbone.layers.", source.config(), {"num_hidden_layers", "n_layer"});
  config.vocab_size = need(source, config.embedding, 2).shape[0];
  config.d_model = need(source, config.embedding, 2).shape[1];
  const Mamba1Layout sizes = read_mamba1_sizes(source, kFirst, config.d_model);
  config.d_inner = sizes.d_inner;
  config.d_state = sizes.d_state;
  config.d_conv = sizes.d_conv;
  config.dt_rank = sizes.dt_rank;
  if (config.d_state > 256 || config.d_conv > 64) {
    throw Error(kFirstMixer + "A_log", "state size " + std::to_string(config.d_state) +
                                           " and convolution width " + std::to_string(config.d_conv) +
                                           "; at most 256 and 64 are supported");
  }
  check_configuration(source, config);
  return config;
}

Json hugging_face_config(const MambaConfig& config, const Json& source_config) {
  const bool is_hugging_face = source_config.is_object() && source_config.contains("model_type");
  if (is_hugging_face) return with_true_vocabulary(source_config, config.vocab_size);
  const Json start = config.start_token.stated();
  return {{"architectures", {"MambaForCausalLM"}},
          {"model_type", "mamba"},
          {"vocab_size", config.vocab_size},
          {"hidden_size", config.d_model},
          {"num_hidden_layers", config.num_layers},
          {"state_size", config.d_state},
          {"conv_kernel", config.d_conv},
          {"intermediate_size", config.d_inner},
          {"time_step_rank", config.dt_rank},
          {"layer_norm_epsilon", config.norm_eps},
          {"hidden_act", "silu"},
          {"use_bias", config.linear_bias},
          {"use_conv_bias", config.conv_bias},
          {"residual_in_fp32", true},
          {"tie_word_embeddings", config.tied.value_or(true)},
          {"bos_token_id", start},
          {"eos_token_id", start}};
}

}  // namespace ptq
