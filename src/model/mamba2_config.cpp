#include "model/mamba2_config.h"

#include <algorithm>
#include <cmath>

#include "model/config_keys.h"
#include "model/mamba2_sizes.h"
#include "model/mamba_words.h"
#include "model/outer_weights.h"
#include "ptq/model/model.h"

namespace ptq {
namespace {

const std::string kFirstMixer = "backbone.layers.0.mixer";

// Of Hugging Face's class. transformers writes norm_before_gate and rms_norm and does not read them; the
// other harmless ones choose an implementation, or initial weights.
const ConfigKeys& hugging_face_keys() {
  static const ConfigKeys all = {
      "Mamba-2",
      {"vocab_size", "pad_vocab_size_multiple", "hidden_size", "num_hidden_layers", "num_heads", "head_dim",
       "state_size", "n_groups", "conv_kernel", "expand", "intermediate_size", "hidden_act",
       "layer_norm_epsilon", "use_bias", "use_conv_bias", "time_step_limit", "tie_word_embeddings",
       "tie_embeddings", "bos_token_id"},
      {"norm_before_gate", "rms_norm", "chunk_size", "residual_in_fp32", "fused_add_norm",
       "rescale_prenorm_residual", "time_step_rank", "time_step_min", "time_step_max", "time_step_floor",
       "time_step_scale", "time_step_init_scheme"}};
  return all;
}

const ConfigKeys& state_spaces_keys() {
  static const ConfigKeys all = {"Mamba-2",
                                 {"vocab_size", "pad_vocab_size_multiple", "d_model", "n_layer", "ssm_cfg",
                                  "rms_norm", "tie_embeddings", "tie_word_embeddings", "bos_token_id"},
                                 {"residual_in_fp32", "fused_add_norm", "attn_cfg"}};
  return all;
}

// A configuration that names no class has no defaults.
Mamba2Words hugging_face_words(bool names_class) {
  Mamba2Words words{.heads = {"num_heads"},
                    .head_dim = {"head_dim"},
                    .state = {"state_size"},
                    .groups = {"n_groups"},
                    .conv = {"conv_kernel"},
                    .inner = {"intermediate_size"},
                    .in_bias = "use_bias",
                    .out_bias = "use_bias",
                    .conv_bias = "use_conv_bias",
                    .limits = "time_step_limit",
                    .stored_biases = !names_class};
  if (!names_class) return words;
  words.default_state = 128;
  words.default_groups = 8;
  return words;
}

const Mamba2Words& state_spaces_words() {
  static const Mamba2Words words{.heads = {},
                                 .head_dim = {"headdim"},
                                 .state = {"d_state"},
                                 .groups = {"ngroups"},
                                 .conv = {"d_conv"},
                                 .default_state = 128,
                                 .default_groups = 1,
                                 .in_bias = "bias",
                                 .out_bias = "bias",
                                 .conv_bias = "conv_bias",
                                 .limits = "dt_limit"};
  return words;
}

// The words of state-spaces' ssm_cfg. Those not read here choose initial weights or an implementation.
constexpr const char* kSsmKeys[] = {"layer",
                                    "d_model",
                                    "d_state",
                                    "d_conv",
                                    "expand",
                                    "headdim",
                                    "ngroups",
                                    "d_ssm",
                                    "dt_limit",
                                    "rmsnorm",
                                    "bias",
                                    "conv_bias",
                                    "D_has_hdim",
                                    "norm_before_gate",
                                    "conv_init",
                                    "A_init_range",
                                    "dt_min",
                                    "dt_max",
                                    "dt_init_floor",
                                    "chunk_size",
                                    "use_mem_eff_path",
                                    "layer_idx",
                                    "process_group",
                                    "sequence_parallel",
                                    "device",
                                    "dtype"};

void check_layer(JsonFields& fields) {
  const std::string layer = fields.string("layer", "Mamba1");
  if (layer == "Mamba2") return;
  throw Error(config_place(fields, "layer"),
              (fields.has("layer") ? "the configuration says " : "is not stated, which means ") +
                  Json(layer).dump() + ", and the tensors are named as Mamba-2's are");
}

// With a d_ssm smaller than the rest in_proj begins with the rows of a gated MLP.
void check_d_ssm(JsonFields& fields, const Mamba2Layout& mixer) {
  if (!fields.has("d_ssm") || fields.integer("d_ssm", 0) == mixer.d_inner) return;
  throw Error(config_place(fields, "d_ssm"), "is " + fields.at("d_ssm").dump() + " of " +
                                                 std::to_string(mixer.d_inner) +
                                                 " channels: an MLP inside the mixer is not supported");
}

// What state-spaces' code gives to each of its layers.
Mamba2Layout read_ssm_cfg(const WeightSource& source, const Json& object, int64_t d_model, double eps) {
  JsonFields fields(object, "config.json: ssm_cfg");
  check_layer(fields);
  for (const auto& [key, value] : object.items()) {
    if (std::find(std::begin(kSsmKeys), std::end(kSsmKeys), key) == std::end(kSsmKeys))
      throw Error(config_place(fields, key), "is not an option of Mamba-2's layers");
  }
  Mamba2Layout mixer = read_mamba2_sizes(source, kFirstMixer, d_model, fields, state_spaces_words());
  check_d_ssm(fields, mixer);
  check_mamba_expand(fields, d_model, mixer.d_inner);
  mixer.D_by_channel = fields.boolean("D_has_hdim", false);
  const bool before_gate = fields.boolean("norm_before_gate", false);
  if (fields.boolean("rmsnorm", true)) mixer.norm = {eps, mixer.groups, before_gate};
  return mixer;
}

// What Hugging Face's class does not have.
bool is_state_spaces_only(const Mamba2Layout& mixer) {
  return mixer.D_by_channel || !mixer.norm || mixer.norm->before_gate;
}

}  // namespace

bool has_mamba2_tensors(const WeightSource& source) {
  return source.find(kFirstMixer + ".in_proj.weight") != nullptr &&
         source.find(kFirstMixer + ".dt_bias") != nullptr && source.find(kFirstMixer + ".A_log") != nullptr;
}

Mamba2Config read_mamba2_config(const WeightSource& source) {
  Mamba2Config config;
  const Json& json = source.config();
  config.embedding = mamba_embedding(source);
  config.num_layers = count_layers(source, "backbone.layers.", json, {"num_hidden_layers", "n_layer"});
  config.vocab_size = need(source, config.embedding, 2).shape[0];
  const int64_t d_model = need(source, config.embedding, 2).shape[1];

  static const Json nothing = Json::object();
  JsonFields fields(json.is_object() ? json : nothing, "config.json");
  const bool names_class = !declared_architectures(json).empty();
  const bool is_state_spaces = !names_class && (fields.has("d_model") || fields.has("ssm_cfg"));
  check_config_keys(json, is_state_spaces ? state_spaces_keys() : hugging_face_keys(), config.warnings);
  expect_equal(fields, {is_state_spaces ? "d_model" : "hidden_size"}, d_model);
  check_mamba_vocabulary(fields, is_state_spaces, config.vocab_size);
  if (is_state_spaces) {
    expect_rms_norm(fields);
    const Json& ssm_cfg = fields.has("ssm_cfg") ? fields.at("ssm_cfg") : nothing;
    config.mixer = read_ssm_cfg(source, ssm_cfg, d_model, config.norm_eps);
    config.tied = states_tied_head(json, true);
  } else {
    expect_silu(fields, "Mamba-2");
    config.norm_eps = read_mamba_eps(fields, config.norm_eps);
    config.mixer = read_mamba2_sizes(source, kFirstMixer, d_model, fields, hugging_face_words(names_class));
    config.mixer.norm = {config.norm_eps, config.mixer.groups};
    check_mamba_expand(fields, d_model, config.mixer.d_inner);
    config.tied = states_tied_head(json, names_class ? std::optional(false) : std::nullopt);
  }
  config.start_token = StartToken(fields, config.vocab_size);
  return config;
}

Json hugging_face_config(const Mamba2Config& config, const Json& source_config) {
  const bool is_hugging_face = source_config.is_object() && source_config.contains("model_type");
  if (is_hugging_face) return with_true_vocabulary(source_config, config.vocab_size);
  const Mamba2Layout& mixer = config.mixer;
  if (is_state_spaces_only(mixer)) return source_config;
  const Json start = config.start_token.stated();
  Json json = {{"architectures", {"Mamba2ForCausalLM"}},
               {"model_type", "mamba2"},
               {"vocab_size", config.vocab_size},
               {"hidden_size", mixer.d_model},
               {"num_hidden_layers", config.num_layers},
               {"num_heads", mixer.heads},
               {"head_dim", mixer.head_dim},
               {"n_groups", mixer.groups},
               {"state_size", mixer.d_state},
               {"conv_kernel", mixer.d_conv},
               {"expand", static_cast<double>(mixer.d_inner) / static_cast<double>(mixer.d_model)},
               {"layer_norm_epsilon", config.norm_eps},
               {"hidden_act", "silu"},
               {"use_bias", mixer.in_bias},
               {"use_conv_bias", mixer.conv_bias},
               {"residual_in_fp32", true},
               {"tie_word_embeddings", config.tied.value_or(false)},
               {"bos_token_id", start},
               {"eos_token_id", start}};
  if (mixer.d_inner % mixer.d_model == 0) json["expand"] = mixer.d_inner / mixer.d_model;
  if (mixer.dt_low != 0 || std::isfinite(mixer.dt_high))
    json["time_step_limit"] = {mixer.dt_low, mixer.dt_high};
  return json;
}

}  // namespace ptq
