#include "export/gguf/architectures.h"

#include <algorithm>
#include <charconv>

#include "export/gguf/rope.h"
#include "ptq/base/error.h"
#include "ptq/base/suggest.h"

namespace ptq {
namespace {

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
  const auto is_declared = [&](const char* name) {
    return std::ranges::find(declared, name) != declared.end();
  };
  const bool is_mistral = is_declared("mistral") || is_declared("MistralForCausalLM");
  const bool is_phi3 = is_declared("phi3") || is_declared("Phi3ForCausalLM");
  constexpr int64_t kUsual = 4096;  // transformers'
  const bool states = config.contains("sliding_window");
  if (states && config.at("sliding_window").is_null()) return 0;
  const bool asked = config.value("use_sliding_window", Json(false)) == true;
  if (!is_mistral && !(is_phi3 && states) && !(asked && config.value("model_type", Json()) != "llama"))
    return 0;
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

// How many channels of a head are rotated.
int64_t rotary_dim(const Json& config, double usual_part) {
  double part = usual_part;
  for (const char* key : {"rotary_pct", "partial_rotary_factor"}) {
    if (config.contains(key) && config.at(key).is_number()) part = config.at(key).get<double>();
    for (const char* rope : {"rope_scaling", "rope_parameters"}) {
      if (config.contains(rope) && config.at(rope).is_object() && config.at(rope).contains(key))
        part = config.at(rope).at(key).get<double>();
    }
  }
  return static_cast<int64_t>(config.at("head_dim").get<double>() * part);
}

// The other way round.
void read_rotary_part(Json& config) {
  if (!config.contains("rotary_dim")) return;
  const auto rotated = config.at("rotary_dim").get<double>(), all = config.at("head_dim").get<double>();
  config["partial_rotary_factor"] = all > 0 ? rotated / all : 1.0;
  config.erase("rotary_dim");
}

// Throws Error for a key of another type.
Json read_value(const GgufKey& row, const std::string& key, const GgufValue& value,
                const std::string& where) {
  using Kind = GgufKey::Kind;
  if (row.kind == Kind::kReal) {
    if (const double* real = std::get_if<double>(&value)) return decimal(*real);
  } else if (row.kind == Kind::kFlag) {
    if (const bool* flag = std::get_if<bool>(&value)) return *flag;
  } else if (const int64_t* number = std::get_if<int64_t>(&value)) {
    return *number;
  }
  const char* wanted = row.kind == Kind::kReal ? "real number" : row.kind == Kind::kFlag ? "flag" : "number";
  throw Error(where, "the key " + key + " is no " + wanted + ", as for a model whose layers differ");
}

void complete(const GgufArchitecture& architecture, Json& config, const std::string& where) {
  try {
    architecture.complete(config);
  } catch (const Json::exception&) {
    throw Error(where, std::string("lacks a key of the architecture ") + architecture.name);
  }
}

void refuse_unknown_keys(const GgufArchitecture& architecture, const GgufFile& file,
                         const std::string& where) {
  const std::string prefix = std::string(architecture.name) + ".";
  for (const auto& [key, value] : file.metadata) {
    if (!key.starts_with(prefix)) continue;
    const std::string own = key.substr(prefix.size());
    if (is_among(kMustBeOff, own) && is_off(value)) continue;
    if (architecture.variant != nullptr && own == architecture.variant) continue;
    const bool known =
        std::ranges::any_of(architecture.keys, [&](const GgufKey& row) { return own == row.key; }) ||
        (is_among(kIgnoredKeys, own) && !is_among(kMustBeOff, own)) || is_rope_key(own);
    if (!known)
      throw Error(where, "the key " + key + " is not known, and may change what the model computes");
  }
}

}  // namespace

const GgufArchitecture& find_gguf_architecture(const GgufFile& file, const std::string& where) {
  const auto found = file.metadata.find("general.architecture");
  const std::string* name = found == file.metadata.end() ? nullptr : std::get_if<std::string>(&found->second);
  if (name == nullptr) throw Error(where, "does not say general.architecture");
  std::string known;
  const GgufArchitecture* usual = nullptr;
  for (const GgufArchitecture& architecture : gguf_architectures()) {
    if (*name == architecture.name) {
      if (architecture.variant == nullptr) {
        usual = &architecture;
      } else {
        const auto flag = file.metadata.find(*name + "." + architecture.variant);
        if (flag != file.metadata.end() && !is_off(flag->second)) return architecture;
      }
    }
    known += (known.empty() ? "" : ", ") + std::string(architecture.name);
  }
  if (usual != nullptr) return *usual;
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
  if (config.contains("num_attention_heads")) {
    config["rotary_dim"] = rotary_dim(config, architecture.usual_rotary_part);
    const char* const parallel = "use_parallel_residual";
    if (!config.contains(parallel)) config[parallel] = architecture.usual_parallel_residual;
  }
  for (const GgufKey& row : architecture.keys) {
    if (config.contains(row.config) || !row.otherwise) continue;
    config[row.config] =
        row.kind == GgufKey::Kind::kReal ? Json(*row.otherwise) : Json(static_cast<int64_t>(*row.otherwise));
  }
  return config;
}

void add_architecture(const GgufArchitecture& architecture, const Json& config, GgufMetadata& metadata,
                      std::vector<std::string>& notes) {
  const std::string prefix = std::string(architecture.name) + ".";
  const int64_t window = sliding_window(config);
  if (architecture.check != nullptr) architecture.check(config, notes);
  if (architecture.variant != nullptr) metadata.add(prefix + architecture.variant, true);
  for (const GgufKey& row : architecture.keys) {
    const Json value = config.value(row.config, Json());
    if (value.is_null()) {
      throw Error("config.json",
                  std::string(row.config) + " is null or not known, and a GGUF of " + architecture.name +
                      " needs a number",
                  "another --format");
    }
    if (row.kind == GgufKey::Kind::kReal) {
      metadata.add(prefix + row.key, value.get<float>());
      continue;
    }
    if (row.kind == GgufKey::Kind::kFlag) {
      metadata.add(prefix + row.key, value.get<bool>());
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
  if (config.contains("num_attention_heads")) add_rope(prefix, config, metadata);
}

Json config_of(const GgufArchitecture& architecture, const GgufFile& file, const std::string& where) {
  refuse_unknown_keys(architecture, file, where);
  Json config = architecture.config;
  for (const GgufKey& row : architecture.keys) {
    const auto found = file.metadata.find(std::string(architecture.name) + "." + row.key);
    if (!row.is_read || found == file.metadata.end()) continue;
    config[row.config] = read_value(row, found->first, found->second, where);
  }
  const char* const key_heads = "num_key_value_heads";
  if (config.contains("num_attention_heads") && !config.contains(key_heads))
    config[key_heads] = config.at("num_attention_heads");
  if (config.contains("num_attention_heads")) {
    const auto heads = config.at("num_attention_heads").get<int64_t>();
    if (!config.contains("head_dim") && config.contains("hidden_size") && heads > 0)
      config["head_dim"] = config.at("hidden_size").get<int64_t>() / heads;
    read_rope_keys(architecture.name, file, config, where);
    read_rotary_part(config);
  }
  if (architecture.complete != nullptr) complete(architecture, config, where);
  return config;
}

std::vector<int64_t> gguf_shape(GgufChange change, std::vector<int64_t> shape, const Json& config) {
  if (change == GgufChange::kSqueeze) shape.erase(shape.begin() + 1);
  if (change == GgufChange::kHeads || change == GgufChange::kHeadDecay) shape.push_back(1);
  if (change != GgufChange::kGroups) return shape;
  const auto groups = config.at("n_groups").get<int64_t>();
  if (groups < 1 || shape.at(0) % groups != 0) {
    throw Error("config.json", std::to_string(shape.at(0)) +
                                   " channels do not divide into n_groups = " + std::to_string(groups));
  }
  return {groups, shape.at(0) / groups};
}

std::vector<int64_t> own_shape(GgufChange change, std::vector<int64_t> shape) {
  if (shape.size() != 2) return shape;  // it is checked against the model's where it is read
  if (change == GgufChange::kSqueeze) shape.insert(shape.begin() + 1, 1);
  const bool is_head = change == GgufChange::kHeads || change == GgufChange::kHeadDecay;
  if (is_head && shape[1] == 1) shape.pop_back();
  if (change == GgufChange::kGroups) shape = {shape[0] * shape[1]};
  return shape;
}

Tensor gguf_rows(GgufChange change, const Json& config, int64_t rows, bool inverse) {
  const bool joined = change == GgufChange::kJoinedRows;
  if (!joined && change != GgufChange::kQueryRows && change != GgufChange::kKeyRows) return {};
  const auto heads = config.at(change == GgufChange::kKeyRows ? "num_key_value_heads" : "num_attention_heads")
                         .get<int64_t>();
  const int64_t parts = joined ? 3 : 2;  // queries, keys and values, or the halves of a head
  if (heads < 1 || rows % (parts * heads) != 0)
    throw Error("", std::to_string(rows) + " rows are not those of " + std::to_string(heads) + " heads");
  const Tensor index = at::arange(rows, at::kLong);
  const int64_t part = rows / heads / parts;
  if (joined && inverse) return index.reshape({parts, heads, part}).transpose(0, 1).reshape({rows});
  if (joined) return index.reshape({heads, parts, part}).transpose(0, 1).reshape({rows});
  if (inverse) return index.reshape({heads, part, parts}).transpose(1, 2).reshape({rows});
  return index.reshape({heads, parts, part}).transpose(1, 2).reshape({rows});
}

}  // namespace ptq
