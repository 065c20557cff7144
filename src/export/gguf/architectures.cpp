#include "export/gguf/architectures.h"

#include <algorithm>
#include <charconv>

#include "export/gguf/rope.h"
#include "ptq/base/error.h"
#include "ptq/base/suggest.h"

namespace ptq {
namespace {

const std::vector<GgufKey>& transformer_keys() {
  static const std::vector<GgufKey> keys = {{"context_length", "max_position_embeddings"},
                                            {"embedding_length", "hidden_size"},
                                            {"block_count", "num_hidden_layers"},
                                            {"feed_forward_length", "intermediate_size"},
                                            {"attention.head_count", "num_attention_heads"},
                                            {"attention.head_count_kv", "num_key_value_heads"},
                                            {"attention.key_length", "head_dim"},
                                            {"attention.value_length", "head_dim", false, false},
                                            {"rope.dimension_count", "head_dim", false, false},
                                            {"attention.layer_norm_rms_epsilon", "rms_norm_eps", true},
                                            {"vocab_size", "vocab_size", false, false}};
  return keys;
}

std::vector<GgufName> transformer_block(GgufChange queries, GgufChange keys) {
  return {{"input_layernorm.weight", "attn_norm.weight"},
          {"self_attn.q_proj.weight", "attn_q.weight", queries},
          {"self_attn.q_proj.bias", "attn_q.bias", queries},
          {"self_attn.k_proj.weight", "attn_k.weight", keys},
          {"self_attn.k_proj.bias", "attn_k.bias", keys},
          {"self_attn.v_proj.weight", "attn_v.weight"},
          {"self_attn.v_proj.bias", "attn_v.bias"},
          {"self_attn.o_proj.weight", "attn_output.weight"},
          {"post_attention_layernorm.weight", "ffn_norm.weight"},
          {"mlp.gate_proj.weight", "ffn_gate.weight"},
          {"mlp.up_proj.weight", "ffn_up.weight"},
          {"mlp.down_proj.weight", "ffn_down.weight"}};
}

std::vector<GgufName> with(std::vector<GgufName> names, const std::vector<GgufName>& more) {
  names.insert(names.end(), more.begin(), more.end());
  return names;
}

const std::vector<GgufName> kTransformerOuter = {{"model.embed_tokens.weight", "token_embd.weight"},
                                                 {"model.norm.weight", "output_norm.weight"},
                                                 {"lm_head.weight", "output.weight"}};
// Only queries and keys of "llama" are rotated in neighbouring pairs.
const GgufChange kPaired = GgufChange::kQueryRows, kPairedKeys = GgufChange::kKeyRows;

Json base_config(const char* model_class, const char* type) {
  return {{"architectures", {model_class}}, {"model_type", type}, {"hidden_act", "silu"}};
}

GgufArchitecture llama() {
  return {"llama",
          "llama",
          "LlamaForCausalLM",
          {"llama", "mistral"},
          "model.layers.",
          with(transformer_block(kPaired, kPairedKeys), {{"self_attn.o_proj.bias", "attn_output.bias"},
                                                         {"mlp.gate_proj.bias", "ffn_gate.bias"},
                                                         {"mlp.up_proj.bias", "ffn_up.bias"},
                                                         {"mlp.down_proj.bias", "ffn_down.bias"}}),
          kTransformerOuter,
          transformer_keys(),
          {{"intermediate_size", "ffn_gate.weight", 0}},
          {{"attention_bias", "blk.0.attn_q.bias"}, {"mlp_bias", "blk.0.ffn_gate.bias"}},
          {},
          base_config("LlamaForCausalLM", "llama")};
}

GgufArchitecture qwen2() {
  return {"qwen2",
          "llama",
          "Qwen2ForCausalLM",
          {"qwen2"},
          "model.layers.",
          transformer_block(GgufChange::kNone, GgufChange::kNone),
          kTransformerOuter,
          transformer_keys(),
          {{"intermediate_size", "ffn_gate.weight", 0}},
          {},
          {},
          base_config("Qwen2ForCausalLM", "qwen2")};
}

GgufArchitecture qwen3() {
  return {"qwen3",
          "llama",
          "Qwen3ForCausalLM",
          {"qwen3"},
          "model.layers.",
          with(transformer_block(GgufChange::kNone, GgufChange::kNone),
               {{"self_attn.q_norm.weight", "attn_q_norm.weight"},
                {"self_attn.k_norm.weight", "attn_k_norm.weight"}}),
          kTransformerOuter,
          transformer_keys(),
          {{"intermediate_size", "ffn_gate.weight", 0}},
          {{"attention_bias", "blk.0.attn_q.bias"}},
          {},
          base_config("Qwen3ForCausalLM", "qwen3")};
}

GgufArchitecture mamba() {
  return {"mamba",
          "mamba",
          "MambaForCausalLM",
          {"mamba"},
          "backbone.layers.",
          {{"norm.weight", "attn_norm.weight"},
           {"mixer.in_proj.weight", "ssm_in.weight"},
           {"mixer.conv1d.weight", "ssm_conv1d.weight", GgufChange::kSqueeze},
           {"mixer.conv1d.bias", "ssm_conv1d.bias"},
           {"mixer.x_proj.weight", "ssm_x.weight"},
           {"mixer.dt_proj.weight", "ssm_dt.weight"},
           {"mixer.dt_proj.bias", "ssm_dt.bias"},
           {"mixer.A_log", "ssm_a", GgufChange::kDecay},
           {"mixer.D", "ssm_d"},
           {"mixer.out_proj.weight", "ssm_out.weight"}},
          {{"backbone.embeddings.weight", "token_embd.weight"},
           {"backbone.embedding.weight", "token_embd.weight"},
           {"backbone.norm_f.weight", "output_norm.weight"},
           {"lm_head.weight", "output.weight"}},
          {{"embedding_length", "hidden_size"},
           {"block_count", "num_hidden_layers"},
           {"ssm.conv_kernel", "conv_kernel"},
           {"ssm.inner_size", "intermediate_size"},
           {"ssm.state_size", "state_size"},
           {"ssm.time_step_rank", "time_step_rank"},
           {"attention.layer_norm_rms_epsilon", "layer_norm_epsilon", true},
           {"vocab_size", "vocab_size", false, false}},
          {{"conv_kernel", "ssm_conv1d.weight", 2},
           {"intermediate_size", "ssm_a", 0},
           {"state_size", "ssm_a", 1},
           {"time_step_rank", "ssm_dt.weight", 1}},
          {{"use_conv_bias", "blk.0.ssm_conv1d.bias"}},
          // A state has no end; llama.cpp's converter says 2^20.
          {{"context_length", 1 << 20}, {"feed_forward_length", 0}, {"attention.head_count", 0}},
          base_config("MambaForCausalLM", "mamba")};
}

// The number of a block, and what follows it, in "PREFIX<i>.rest".
bool split_block(const std::string& name, const std::string& prefix, std::string& index, std::string& rest) {
  if (!name.starts_with(prefix)) return false;
  const size_t dot = name.find('.', prefix.size());
  if (dot == std::string::npos || dot == prefix.size()) return false;
  index = name.substr(prefix.size(), dot - prefix.size());
  rest = name.substr(dot + 1);
  return index.find_first_not_of("0123456789") == std::string::npos;
}

// A float32 as the decimal that was meant: 1e-05, and not the double next to its bits.
double decimal(double value) {
  char text[32];
  const auto [end, failed] = std::to_chars(text, text + sizeof(text), static_cast<float>(value));
  double meant = value;
  if (failed == std::errc()) std::from_chars(text, end, meant);
  return meant;
}

// What a runtime without sliding windows must not go beyond; 0: they are not used.
int64_t sliding_window(const Json& config) {
  const std::vector<std::string> declared = declared_architectures(config);
  const bool is_mistral = std::ranges::find(declared, "mistral") != declared.end() ||
                          std::ranges::find(declared, "MistralForCausalLM") != declared.end();
  constexpr int64_t kUsual = 4096;  // transformers'
  const bool states = config.contains("sliding_window");
  if (states && config.at("sliding_window").is_null()) return 0;
  const bool asked = config.value("use_sliding_window", Json(false)) == true;
  if (!is_mistral && !(asked && config.value("model_type", Json()) != "llama")) return 0;
  return states ? config.at("sliding_window").get<int64_t>() : kUsual;
}

// Under the architecture's name, and harmless: what a reader of ours takes from elsewhere or need not know.
constexpr const char* kIgnoredKeys[] = {
    "vocab_size",           "context_length",         "feed_forward_length",
    "attention.head_count", "attention.value_length", "rope.dimension_count",
    "tensor_data_layout",   "rope.scaling.finetuned", "expert_count",
    "expert_used_count",    "ssm.dt_b_c_rms",         "attention.causal",
    "use_parallel_residual"};

// Those of them that must be absent, 0 or false.
bool is_off(const GgufValue& value) {
  if (const bool* flag = std::get_if<bool>(&value)) return !*flag;
  if (const int64_t* number = std::get_if<int64_t>(&value)) return *number == 0;
  return false;
}
constexpr const char* kMustBeOff[] = {"expert_count", "expert_used_count", "ssm.dt_b_c_rms",
                                      "use_parallel_residual"};

template <size_t n>
bool is_among(const char* const (&names)[n], const std::string& name) {
  return std::ranges::any_of(names, [&](const char* each) { return name == each; });
}

void refuse_unknown_keys(const GgufArchitecture& architecture, const GgufFile& file,
                         const std::string& where) {
  const std::string prefix = std::string(architecture.name) + ".";
  for (const auto& [key, value] : file.metadata) {
    if (!key.starts_with(prefix)) continue;
    const std::string own = key.substr(prefix.size());
    if (is_among(kMustBeOff, own) && is_off(value)) continue;
    const bool known =
        std::ranges::any_of(architecture.keys, [&](const GgufKey& row) { return own == row.key; }) ||
        (is_among(kIgnoredKeys, own) && !is_among(kMustBeOff, own)) || is_rope_key(own);
    if (!known)
      throw Error(where, "the key " + key + " is not known, and may change what the model computes");
  }
}

}  // namespace

const std::vector<GgufArchitecture>& gguf_architectures() {
  static const std::vector<GgufArchitecture> all = {llama(), qwen2(), qwen3(), mamba()};
  return all;
}

const GgufArchitecture& find_gguf_architecture(const GgufFile& file, const std::string& where) {
  const auto found = file.metadata.find("general.architecture");
  const std::string* name = found == file.metadata.end() ? nullptr : std::get_if<std::string>(&found->second);
  if (name == nullptr) throw Error(where, "does not say general.architecture");
  std::string known;
  for (const GgufArchitecture& architecture : gguf_architectures()) {
    if (*name == architecture.name) return architecture;
    known += (known.empty() ? "" : ", ") + std::string(architecture.name);
  }
  throw Error(
      where,
      "the architecture " + Json(*name).dump(-1, ' ', true, Json::error_handler_t::replace) + " is not read",
      "one of " + known);
}

const GgufArchitecture& find_gguf_architecture(const OpenModel& open) {
  const std::vector<std::string> declared = declared_architectures(open.model->config());
  const auto is_declared = [&](const std::string& name) {
    return std::ranges::find(declared, name) != declared.end();
  };
  const GgufArchitecture* usual = nullptr;
  std::string known;
  for (const GgufArchitecture& architecture : gguf_architectures()) {
    known += (known.empty() ? "" : ", ") + std::string(architecture.own);
    if (open.architecture->name != std::string(architecture.own)) continue;
    if (usual == nullptr) usual = &architecture;
    if (is_declared(architecture.model_class)) return architecture;
    for (const char* type : architecture.types) {
      if (is_declared(type)) return architecture;
    }
  }
  if (usual != nullptr) return *usual;
  throw Error(open.checkpoint->path(),
              std::string("llama.cpp's names for ") + open.architecture->name + " are not known",
              "an architecture among " + known);
}

GgufPlace gguf_place(const GgufArchitecture& architecture, const std::string& own) {
  for (const GgufName& row : architecture.outer) {
    if (own == row.own) return {row.gguf, &row};
  }
  std::string index, rest;
  if (!split_block(own, architecture.blocks, index, rest)) return {};
  for (const GgufName& row : architecture.block) {
    if (rest == row.own) return {"blk." + index + "." + row.gguf, &row};
  }
  return {};
}

GgufPlace own_place(const GgufArchitecture& architecture, const std::string& gguf) {
  for (const GgufName& row : architecture.outer) {
    if (gguf == row.gguf) return {row.own, &row};
  }
  std::string index, rest;
  if (!split_block(gguf, "blk.", index, rest)) return {};
  for (const GgufName& row : architecture.block) {
    if (rest == row.gguf) return {architecture.blocks + index + "." + row.own, &row};
  }
  return {};
}

Json whole_config(const OpenModel& open, const GgufArchitecture& architecture) {
  Json config = open.model->config();
  config["hidden_size"] = open.model->hidden_size();
  config["vocab_size"] = open.model->vocab_size();
  config["num_hidden_layers"] = open.model->num_blocks();
  const std::unique_ptr<Block> block = open.model->load_block(0);
  for (const Weight* weight : block->weights()) {
    const GgufName* row = gguf_place(architecture, weight->name).row;
    for (const GgufSize& size : architecture.sizes) {
      if (row != nullptr && row->gguf == std::string(size.gguf)) config[size.config] = weight->size(size.dim);
    }
  }
  for (const Site* site : block->sites()) {
    if (site->head_dim > 0) config["head_dim"] = site->head_dim;
  }
  const char* const key_heads = "num_key_value_heads";
  if (config.contains("num_attention_heads") &&
      (!config.contains(key_heads) || config.at(key_heads).is_null()))
    config[key_heads] = config.at("num_attention_heads");
  if (!config.contains("layer_norm_epsilon")) config["layer_norm_epsilon"] = 1e-5;
  return config;
}

void add_architecture(const GgufArchitecture& architecture, const Json& config, GgufMetadata& metadata,
                      std::vector<std::string>& notes) {
  const std::string prefix = std::string(architecture.name) + ".";
  const int64_t window = sliding_window(config);
  for (const GgufKey& row : architecture.keys) {
    const Json& value = config.at(row.config);
    if (row.is_real) {
      metadata.add(prefix + row.key, value.get<float>());
      continue;
    }
    auto number = value.get<int64_t>();
    if (row.key == std::string("context_length") && window > 0 && window < number) {
      notes.push_back("context_length is " + std::to_string(window) + ", the sliding window, not " +
                      std::to_string(number) + ": llama.cpp has no such window for " + architecture.name);
      number = window;
    }
    metadata.add(prefix + row.key, static_cast<uint32_t>(number));
  }
  for (const auto& [key, value] : architecture.constants) metadata.add(prefix + key, value);
  if (config.contains("head_dim")) add_rope(prefix, config, metadata);
}

Json config_of(const GgufArchitecture& architecture, const GgufFile& file, const std::string& where) {
  refuse_unknown_keys(architecture, file, where);
  Json config = architecture.config;
  for (const GgufKey& row : architecture.keys) {
    const auto found = file.metadata.find(std::string(architecture.name) + "." + row.key);
    if (!row.is_read || found == file.metadata.end()) continue;
    if (const double* real = std::get_if<double>(&found->second); real != nullptr && row.is_real) {
      config[row.config] = decimal(*real);
    } else if (const int64_t* number = std::get_if<int64_t>(&found->second);
               number != nullptr && !row.is_real) {
      config[row.config] = *number;
    } else {
      throw Error(where, "the key " + found->first + " is no " + (row.is_real ? "real number" : "number") +
                             ", as for a model whose layers differ");
    }
  }
  const char* const key_heads = "num_key_value_heads";
  if (config.contains("num_attention_heads") && !config.contains(key_heads))
    config[key_heads] = config.at("num_attention_heads");
  if (architecture.own == std::string("llama")) read_rope_keys(architecture.name, file, config, where);
  return config;
}

Tensor gguf_rows(GgufChange change, const Json& config, int64_t rows, bool inverse) {
  if (change != GgufChange::kQueryRows && change != GgufChange::kKeyRows) return {};
  const auto heads =
      config.at(change == GgufChange::kQueryRows ? "num_attention_heads" : "num_key_value_heads")
          .get<int64_t>();
  if (heads < 1 || rows % (2 * heads) != 0)
    throw Error("", std::to_string(rows) + " rows are not those of " + std::to_string(heads) + " heads");
  const Tensor index = at::arange(rows, at::kLong);
  if (inverse) return index.reshape({heads, rows / heads / 2, 2}).transpose(1, 2).reshape({rows});
  return index.reshape({heads, 2, rows / heads / 2}).transpose(1, 2).reshape({rows});
}

}  // namespace ptq
