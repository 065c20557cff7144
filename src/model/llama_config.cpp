#include "model/llama_config.h"

#include "model/reading.h"
#include "ptq/base/error.h"
#include "ptq/model/model.h"

namespace ptq {
namespace {

const std::string kWhere = "config.json: ";
const std::string kEmbedding = "model.embed_tokens.weight";
const std::string kAttention = "model.layers.0.self_attn.";
const std::string kMlp = "model.layers.0.mlp.";
constexpr int64_t kMaxCount = int64_t{1} << 31;  // for every count in the configuration

// Which layers of an architecture attend through a window.
enum class Windows { kNone, kAllLayers, kByLayer };

// What the members of the family do differently without their configuration saying so.
struct Member {
  const char* architecture;
  const char* model_type;
  bool qkv_bias;
  bool qk_norm;
  Windows windows;
};

constexpr Member kMembers[] = {
    {"LlamaForCausalLM", "llama", false, false, Windows::kNone},
    {"MistralForCausalLM", "mistral", false, false, Windows::kAllLayers},
    {"Qwen2ForCausalLM", "qwen2", true, false, Windows::kByLayer},
    {"Qwen3ForCausalLM", "qwen3", false, true, Windows::kByLayer},
};

// nullptr if the configuration names no architecture of the family.
const Member* find_member(const Json& config) {
  const std::string declared = declared_architecture(config);
  for (const Member& member : kMembers) {
    if (declared == member.architecture || declared == member.model_type) return &member;
  }
  return nullptr;
}

int64_t count_layers(const WeightSource& source) {
  int64_t layers = 0;
  while (source.find("model.layers." + std::to_string(layers) + ".self_attn.q_proj.weight") != nullptr)
    ++layers;
  return layers;
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

// A count from 1 to 2^31.
int64_t read_count(JsonFields& fields, const char* key) {
  const int64_t value = fields.integer(key, 0);
  if (value >= 1 && value <= kMaxCount) return value;
  throw Error(kWhere + key,
              "is " + std::to_string(value) + "; it must lie between 1 and " + std::to_string(kMaxCount));
}

Error does_not_divide(const char* what, int64_t number, const char* by, int64_t divisor) {
  return Error("config.json", std::string(what) + " is " + std::to_string(number) +
                                  ", which is no multiple of " + by + ", " + std::to_string(divisor));
}

// `q_rows` and `kv_rows`: what q_proj and k_proj give.
void read_heads(JsonFields& fields, int64_t q_rows, int64_t kv_rows, LlamaConfig& config) {
  config.heads = read_count(fields, "num_attention_heads");
  if (fields.has("num_key_value_heads")) {
    config.kv_heads = read_count(fields, "num_key_value_heads");
    if (config.heads % config.kv_heads != 0)
      throw does_not_divide("num_attention_heads", config.heads, "num_key_value_heads", config.kv_heads);
  }
  if (!fields.has("head_dim") && config.hidden % config.heads != 0)
    throw does_not_divide("hidden_size", config.hidden, "num_attention_heads", config.heads);
  if (q_rows % config.heads != 0)
    throw does_not_divide("the number of q_proj's rows", q_rows, "num_attention_heads", config.heads);
  config.head_dim = q_rows / config.heads;
  const int64_t stated_dim = fields.has("head_dim") ? read_count(fields, "head_dim") : config.head_dim;
  if (stated_dim != config.head_dim) {
    throw Error(kWhere + "head_dim", "is " + std::to_string(stated_dim) + ", but q_proj has " +
                                         std::to_string(q_rows) + " rows for " +
                                         std::to_string(config.heads) + " heads");
  }
  if (config.head_dim % 2 != 0)
    throw Error("config.json", "heads of " + std::to_string(config.head_dim) + " channels cannot be rotated");
  if (kv_rows % config.head_dim != 0)
    throw does_not_divide("the number of k_proj's rows", kv_rows, "head_dim", config.head_dim);
  expect_equal(fields, {"num_key_value_heads"}, kv_rows / config.head_dim);
  config.kv_heads = kv_rows / config.head_dim;
  if (config.heads % config.kv_heads != 0)
    throw does_not_divide("num_attention_heads", config.heads, "num_key_value_heads", config.kv_heads);
}

// [layers]: whether each attends through the window.
std::vector<bool> sliding_layers(JsonFields& fields, bool in_use, int64_t layers) {
  std::vector<bool> sliding;
  if (!fields.has("layer_types")) {
    const int64_t first = fields.integer("max_window_layers", 28);  // 28: transformers' default
    for (int64_t i = 0; i < layers; ++i) sliding.push_back(in_use && i >= first);
    return sliding;
  }
  const Json& types = fields.at("layer_types");
  if (!types.is_array() || static_cast<int64_t>(types.size()) != layers) {
    throw Error(kWhere + "layer_types", "must be an array of " + std::to_string(layers) +
                                            " types, one for each layer of the checkpoint");
  }
  for (const Json& type : types) {
    if (type != "full_attention" && type != "sliding_attention")
      throw Error(kWhere + "layer_types", "the type " + type.dump() + " is not supported");
    sliding.push_back(type == "sliding_attention");
  }
  return sliding;
}

// `states_window`: whether the configuration has the key `sliding_window`, were it null.
std::vector<int64_t> read_windows(JsonFields& fields, const Member* member, bool states_window,
                                  int64_t layers) {
  if (member == nullptr && fields.has("sliding_window")) {
    throw Error(kWhere + "sliding_window", "which layers it is for depends on the architecture",
                "add its \"model_type\"");
  }
  const Windows kind = member == nullptr ? Windows::kNone : member->windows;
  if (kind == Windows::kNone) return std::vector<int64_t>(static_cast<size_t>(layers), 0);
  // A null switches the window off; where the key is absent, transformers' default is 4096.
  const bool in_use = (!states_window || fields.has("sliding_window")) &&
                      (kind == Windows::kAllLayers || fields.boolean("use_sliding_window", false));
  std::vector<bool> sliding(static_cast<size_t>(layers), in_use);
  if (kind == Windows::kByLayer) sliding = sliding_layers(fields, in_use, layers);
  const int64_t size = in_use && states_window ? read_count(fields, "sliding_window") : 4096;
  std::vector<int64_t> windows;
  for (const bool on : sliding) {
    if (on && !in_use)
      throw Error(kWhere + "layer_types", "layers have sliding attention, but no sliding window is in use");
    windows.push_back(on ? size : 0);
  }
  return windows;
}

int64_t read_start_token(JsonFields& fields, int64_t vocab_size) {
  const char* const key = "bos_token_id";
  if (!fields.has(key)) return 0;
  int64_t token = -1;
  if (const Json& value = fields.at(key); value.is_array()) {
    if (!value.empty() && value[0].is_number_integer()) token = value[0].get<int64_t>();
  } else {
    token = fields.integer(key, 0);
  }
  if (token >= 0 && token < vocab_size) return token;
  throw Error(kWhere + key,
              "is " + fields.at(key).dump() + ", outside the vocabulary of " + std::to_string(vocab_size));
}

// What a member of the family must have, and what the configuration says is there.
void check_tensors(const WeightSource& source, const Member* member, JsonFields& fields, bool qk_norm) {
  if (fields.boolean("attention_bias", false) || (member != nullptr && member->qkv_bias))
    need(source, kAttention + "q_proj.bias", 1);
  if (fields.boolean("mlp_bias", false)) need(source, kMlp + "gate_proj.bias", 1);
  if (member == nullptr || member->qk_norm == qk_norm) return;
  need(source, kAttention + "q_norm.weight", 1);
  throw Error(kAttention + "q_norm.weight", std::string("a ") + member->architecture + " has no such tensor",
              "--config names the configuration of this checkpoint");
}

void check_choices(JsonFields& fields) {
  if (const std::string act = fields.string("hidden_act", "silu"); act != "silu")
    throw Error(kWhere + "hidden_act", "\"" + act + "\" is not supported; the family uses silu");
  if (const double eps = fields.number("rms_norm_eps", 0); !(eps > 0 && eps < 1))
    throw Error(kWhere + "rms_norm_eps", "is " + Json(eps).dump() + "; it must lie between 0 and 1");
}

}  // namespace

bool is_llama(const WeightSource& source) {
  if (!declared_architecture(source.config()).empty()) return find_member(source.config()) != nullptr;
  return source.find(kEmbedding) != nullptr && source.find(kAttention + "q_proj.weight") != nullptr &&
         source.find(kMlp + "gate_proj.weight") != nullptr;
}

LlamaConfig read_llama_config(const WeightSource& source) {
  LlamaConfig config;
  config.vocab_size = need(source, kEmbedding, 2).shape[0];
  config.hidden = need(source, kEmbedding, 2).shape[1];
  const int64_t q_rows = need(source, kAttention + "q_proj.weight", 2).shape[0];
  const int64_t kv_rows = need(source, kAttention + "k_proj.weight", 2).shape[0];
  config.intermediate = need(source, kMlp + "gate_proj.weight", 2).shape[0];
  config.num_layers = count_layers(source);
  config.qk_norm = source.find(kAttention + "q_norm.weight") != nullptr;

  require_fields(source.config());
  const Member* member = find_member(source.config());
  JsonFields fields(source.config(), "config.json");
  expect_equal(fields, {"hidden_size"}, config.hidden);
  expect_equal(fields, {"num_hidden_layers"}, config.num_layers);
  expect_equal(fields, {"intermediate_size"}, config.intermediate);
  expect_equal(fields, {"vocab_size"}, config.vocab_size);
  check_choices(fields);
  check_tensors(source, member, fields, config.qk_norm);
  config.norm_eps = fields.number("rms_norm_eps", 0);
  config.context_limit = read_count(fields, "max_position_embeddings");
  config.start_token = read_start_token(fields, config.vocab_size);
  read_heads(fields, q_rows, kv_rows, config);
  config.rope = read_rope(source.config(), config.head_dim, config.context_limit);
  const bool states_window = source.config().contains("sliding_window");
  config.windows = read_windows(fields, member, states_window, config.num_layers);
  return config;
}

}  // namespace ptq
