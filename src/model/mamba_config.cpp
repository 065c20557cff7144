#include "model/mamba_config.h"

#include "model/reading.h"
#include "ptq/base/error.h"

namespace ptq {
namespace {

const char* const kEmbeddingNames[] = {"backbone.embeddings.weight", "backbone.embedding.weight"};
const std::string kFirstMixer = "backbone.layers.0.mixer.";

int64_t count_layers(const WeightSource& source) {
  int64_t layers = 0;
  while (source.find("backbone.layers." + std::to_string(layers) + ".mixer.in_proj.weight") != nullptr)
    ++layers;
  return layers;
}

void check_configuration(const Json& json, MambaConfig& config) {
  if (!json.is_object()) return;
  JsonFields fields(json, "config.json");
  expect_equal(fields, {"hidden_size", "d_model"}, config.d_model);
  expect_equal(fields, {"num_hidden_layers", "n_layer"}, config.num_layers);
  expect_equal(fields, {"state_size"}, config.d_state);
  expect_equal(fields, {"conv_kernel"}, config.d_conv);
  expect_equal(fields, {"intermediate_size"}, config.d_inner);
  expect_equal(fields, {"time_step_rank"}, config.dt_rank);
  if (fields.has("hidden_act") && fields.string("hidden_act", "") != "silu") {
    throw Error("config.json: hidden_act",
                "\"" + fields.string("hidden_act", "") + "\" is not supported; Mamba uses silu");
  }
  if (!fields.boolean("rms_norm", true)) {
    throw Error("config.json: rms_norm", "LayerNorm is not supported; published Mamba models use RMSNorm");
  }
  config.norm_eps = fields.number("layer_norm_epsilon", config.norm_eps);
  config.start_token = fields.integer("bos_token_id", config.start_token);
  if (config.start_token < 0 || config.start_token >= config.vocab_size) {
    throw Error("config.json: bos_token_id", "is " + std::to_string(config.start_token) +
                                                 ", outside the vocabulary of " +
                                                 std::to_string(config.vocab_size));
  }
}

}  // namespace

bool has_mamba_tensors(const WeightSource& source) {
  return source.find(kFirstMixer + "in_proj.weight") != nullptr &&
         source.find(kFirstMixer + "x_proj.weight") != nullptr &&
         source.find(kFirstMixer + "A_log") != nullptr;
}

MambaConfig read_mamba_config(const WeightSource& source) {
  MambaConfig config;
  for (const char* name : kEmbeddingNames) {
    if (source.find(name) != nullptr) config.embedding = name;
  }
  if (config.embedding.empty())
    throw Error(kEmbeddingNames[0], "the embedding is missing from the checkpoint");
  config.vocab_size = need(source, config.embedding, 2).shape[0];
  config.d_model = need(source, config.embedding, 2).shape[1];
  config.d_inner = need(source, kFirstMixer + "A_log", 2).shape[0];
  config.d_state = need(source, kFirstMixer + "A_log", 2).shape[1];
  config.d_conv = need(source, kFirstMixer + "conv1d.weight", 3).shape[2];
  config.dt_rank = need(source, kFirstMixer + "dt_proj.weight", 2).shape[1];
  config.num_layers = count_layers(source);
  if (config.d_state > 256 || config.d_conv > 64) {
    throw Error(kFirstMixer + "A_log", "state size " + std::to_string(config.d_state) +
                                           " and convolution width " + std::to_string(config.d_conv) +
                                           "; at most 256 and 64 are supported");
  }
  check_configuration(source.config(), config);
  return config;
}

Json hugging_face_config(const MambaConfig& config, const Json& source_config) {
  const bool is_hugging_face = source_config.is_object() && source_config.contains("model_type");
  if (is_hugging_face) return source_config;
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
          {"use_bias", false},
          {"use_conv_bias", true},
          {"residual_in_fp32", true},
          {"tie_word_embeddings", config.tied},
          {"bos_token_id", config.start_token},
          {"eos_token_id", config.start_token}};
}

}  // namespace ptq
