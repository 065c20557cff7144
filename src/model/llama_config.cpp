#include "model/llama_config.h"

#include "model/attention_config.h"
#include "model/config_keys.h"
#include "model/llama_windows.h"
#include "model/outer_weights.h"
#include "ptq/model/model.h"

namespace ptq {
namespace {

const std::string kWhere = "config.json: ";
const std::string kEmbedding = "model.embed_tokens.weight";
const std::string kAttention = "model.layers.0.self_attn.";
const std::string kMlp = "model.layers.0.mlp.";

// Which linears have a bias: none, all, or those of which the configuration says so.
enum class Biases { kNone, kAll, kByKey };

// What the members of the family do differently without their configuration saying so.
struct Member {
  const char* architecture;
  const char* base;  // the class without a head
  const char* model_type;
  Biases qkv, o, mlp;
  bool qk_norm;
  Windows windows;
};

constexpr Member kMembers[] = {
    {"LlamaForCausalLM", "LlamaModel", "llama", Biases::kByKey, Biases::kByKey, Biases::kByKey, false,
     Windows::kNone},
    {"MistralForCausalLM", "MistralModel", "mistral", Biases::kNone, Biases::kNone, Biases::kNone, false,
     Windows::kAllLayers},
    {"Qwen2ForCausalLM", "Qwen2Model", "qwen2", Biases::kAll, Biases::kNone, Biases::kNone, false,
     Windows::kByLayer},
    {"Qwen3ForCausalLM", "Qwen3Model", "qwen3", Biases::kByKey, Biases::kByKey, Biases::kNone, true,
     Windows::kByLayer},
};

// Some are read in llama_windows.cpp and rope.cpp.
const ConfigKeys& keys() {
  static const ConfigKeys all = {"Llama-like transformers",
                                 {"vocab_size",
                                  "hidden_size",
                                  "intermediate_size",
                                  "num_hidden_layers",
                                  "num_attention_heads",
                                  "num_key_value_heads",
                                  "head_dim",
                                  "hidden_act",
                                  "rms_norm_eps",
                                  "max_position_embeddings",
                                  "attention_bias",
                                  "mlp_bias",
                                  "tie_word_embeddings",
                                  "bos_token_id",
                                  "rope_parameters",
                                  "rope_scaling",
                                  "rope_theta",
                                  "partial_rotary_factor",
                                  "original_max_position_embeddings",
                                  "sliding_window",
                                  "use_sliding_window",
                                  "max_window_layers",
                                  "layer_types"},
                                 {"is_llama_config"}};
  return all;
}

// nullptr if the configuration names none. Throws Error if it names two.
const Member* find_member(const Json& config) {
  const Member* found = nullptr;
  for (const std::string& name : declared_architectures(config)) {
    for (const Member& member : kMembers) {
      if (name != member.architecture && name != member.base && name != member.model_type) continue;
      if (found != nullptr && found != &member) {
        throw Error("config.json",
                    std::string("calls the model a ") + found->architecture + " and a " +
                        member.architecture + ", which compute different things",
                    "\"architectures\" and \"model_type\" of the same model");
      }
      found = &member;
    }
  }
  return found;
}

void require_fields(const Json& config) {
  std::vector<const char*> needed = {"num_attention_heads", "rms_norm_eps", "max_position_embeddings"};
  // A configuration that transformers wrote may leave it out where it is 10000.
  const bool has_rope = config.is_object() && (config.contains("rope_parameters") || find_member(config));
  if (!has_rope) needed.push_back("rope_theta");
  std::string missing;
  size_t count = 0;
  for (const char* key : needed) {
    if (config.is_object() && config.contains(key) && !config[key].is_null()) continue;
    missing += (missing.empty() ? "" : ", ") + std::string(key);
    ++count;
  }
  if (count == 0) return;
  throw Error("config.json",
              missing + (count == 1 ? " is" : " are") + " missing, and the tensors' shapes do not tell " +
                  (count == 1 ? "it" : "them"),
              "--config names the model's config.json");
}

// `stored` is whether the tensor `bias` is, which decides where no member is named.
bool has_bias(const WeightSource& source, JsonFields& fields, const Member* member, Biases biases,
              const char* key, const std::string& bias) {
  const bool stored = source.find(bias) != nullptr;
  if (member == nullptr) return reads_bias(source, fields, key, stored, bias);
  if (biases == Biases::kByKey) return reads_bias(source, fields, key, false, bias);
  return biases == Biases::kAll;
}

void read_biases(const WeightSource& source, JsonFields& fields, const Member* member, LlamaConfig& config) {
  const auto read = [&](Biases Member::* part, const char* key, const std::string& linear) {
    return has_bias(source, fields, member, member != nullptr ? member->*part : Biases::kByKey, key,
                    linear + ".bias");
  };
  config.qkv_bias = read(&Member::qkv, "attention_bias", kAttention + "q_proj");
  config.o_bias = read(&Member::o, "attention_bias", kAttention + "o_proj");
  config.mlp_bias = read(&Member::mlp, "mlp_bias", kMlp + "gate_proj");
  if (config.qkv_bias) need(source, kAttention + "q_proj.bias", 1);
  if (config.mlp_bias) need(source, kMlp + "gate_proj.bias", 1);
  for (const auto& [key, is_read] :
       {std::pair{"attention_bias", config.qkv_bias}, {"mlp_bias", config.mlp_bias}}) {
    if (fields.boolean(key, false) && !is_read)
      throw Error(kWhere + key,
                  std::string("is true, but a ") + member->architecture + " has no such biases");
  }
}

void check_norms(const WeightSource& source, const Member* member, bool qk_norm) {
  if (member == nullptr || member->qk_norm == qk_norm) return;
  need(source, kAttention + "q_norm.weight", 1);
  throw Error(kAttention + "q_norm.weight", std::string("a ") + member->architecture + " has no such tensor",
              "--config names the configuration of this checkpoint");
}

void check_choices(JsonFields& fields) {
  expect_silu(fields, "the family");
  if (const double eps = fields.number("rms_norm_eps", 0); !(eps > 0 && eps < 1))
    throw Error(kWhere + "rms_norm_eps", "is " + Json(eps).dump() + "; it must lie between 0 and 1");
}

}  // namespace

std::vector<std::string> llama_names() {
  std::vector<std::string> names;
  for (const Member& member : kMembers) {
    for (const char* name : {member.architecture, member.base, member.model_type}) names.emplace_back(name);
  }
  return names;
}

bool has_llama_tensors(const WeightSource& source) {
  return source.find(kEmbedding) != nullptr && source.find(kAttention + "q_proj.weight") != nullptr &&
         source.find(kMlp + "gate_proj.weight") != nullptr;
}

LlamaConfig read_llama_config(const WeightSource& source) {
  LlamaConfig config;
  const Json& json = source.config();
  config.num_layers = count_layers(source, "model.layers.", json, {"num_hidden_layers"});
  config.vocab_size = need(source, kEmbedding, 2).shape[0];
  config.hidden = need(source, kEmbedding, 2).shape[1];
  const int64_t q_rows = need(source, kAttention + "q_proj.weight", 2).shape[0];
  const int64_t kv_rows = need(source, kAttention + "k_proj.weight", 2).shape[0];
  config.intermediate = need(source, kMlp + "gate_proj.weight", 2).shape[0];
  config.qk_norm = source.find(kAttention + "q_norm.weight") != nullptr;

  require_fields(json);
  check_config_keys(json, keys(), config.warnings);
  const Member* member = find_member(json);
  JsonFields fields(json, "config.json");
  expect_equal(fields, {"hidden_size"}, config.hidden);
  expect_equal(fields, {"intermediate_size"}, config.intermediate);
  expect_equal(fields, {"vocab_size"}, config.vocab_size);
  check_choices(fields);
  check_norms(source, member, config.qk_norm);
  read_biases(source, fields, member, config);
  config.norm_eps = fields.number("rms_norm_eps", 0);
  config.context_limit = read_count(fields, "max_position_embeddings");
  config.start_token = StartToken(fields, config.vocab_size);
  config.tied = states_tied_head(json, member != nullptr ? std::optional(false) : std::nullopt);
  const Heads heads = read_heads(fields, config.hidden, q_rows, kv_rows);
  config.heads = heads.queries;
  config.kv_heads = heads.keys;
  config.head_dim = heads.channels;
  config.rope = read_rope(json, config.head_dim, config.context_limit, config.warnings);
  if (member == nullptr && fields.has("sliding_window")) {
    throw Error(kWhere + "sliding_window", "which layers it is for depends on the architecture",
                "add its \"model_type\"");
  }
  config.windows = read_windows(json, member != nullptr ? member->windows : Windows::kNone,
                                member != nullptr ? member->architecture : "model without \"model_type\"",
                                config.num_layers, config.warnings);
  return config;
}

}  // namespace ptq
