#include "export/compressed_tensors_config.h"

#include <algorithm>

#include "ptq/base/error.h"

namespace ptq {
namespace {

constexpr const char* kExpression = "re:";
constexpr const char* kLinearClass = "Linear";
constexpr size_t kMostNames = 100'000;

Json arguments_json(int bits, bool symmetric, const char* strategy, const Json& group, bool dynamic) {
  return {{"num_bits", bits},    {"type", "int"},      {"symmetric", symmetric}, {"strategy", strategy},
          {"group_size", group}, {"dynamic", dynamic}, {"actorder", nullptr}};
}

// A value that may be null, which is as good as none.
bool has_value(JsonFields& fields, const std::string& key) {
  return fields.has(key) && !fields.at(key).is_null();
}

// QuantizationArgs as they are stored, before it is known what they are of.
struct Arguments {
  int bits = 8;
  bool symmetric = true, dynamic = false;
  std::string strategy;
  int64_t group = 0;
};

void expect_no_order(JsonFields& fields) {
  if (!has_value(fields, "actorder")) return;
  const Json& order = fields.at("actorder");
  if (order == false || order == "static" || order == "weight") return;  // groups lie as the columns do
  throw Error(fields.path() + ".actorder",
              order.dump() + ": columns that are grouped in the order of their activations are not read",
              "a checkpoint with \"actorder\": \"static\"");
}

std::string strategy_of(JsonFields& fields, const Arguments& arguments) {
  if (has_value(fields, "strategy")) return fields.string("strategy", "");
  if (arguments.group > 0) return "group";
  if (arguments.group == -1) return "channel";
  return arguments.dynamic ? "token" : "tensor";
}

Arguments read_arguments(const Json& json, const std::string& where) {
  JsonFields fields(json, where);
  Arguments read;
  const int64_t bits = fields.integer("num_bits", 8);
  if (bits < 2 || bits > 8) throw Error(where + ".num_bits", std::to_string(bits) + " bits; 2 to 8 are read");
  read.bits = static_cast<int>(bits);
  const std::string type = fields.string("type", "int");
  if (type != "int") throw Error(where + ".type", "\"" + type + "\" is not read; \"int\" is");
  read.symmetric = fields.boolean("symmetric", true);
  read.dynamic = fields.boolean("dynamic", false);
  read.group = has_value(fields, "group_size") ? fields.integer("group_size", 0) : 0;
  if (read.group < -1 || read.group > (int64_t{1} << 40))
    throw Error(where + ".group_size", "is " + std::to_string(read.group));
  read.strategy = strategy_of(fields, read);
  expect_no_order(fields);
  if (has_value(fields, "block_structure"))
    throw Error(where + ".block_structure", "blocks of a weight that share a scale are not read");
  // What the values were found with, and the dtypes that a loader may give scales and zero points.
  for (const char* key : {"observer", "observer_kwargs", "scale_dtype", "zp_dtype"}) fields.has(key);
  fields.finish(ExitCode::kFailed);
  return read;
}

WeightScheme weights_of(const Arguments& read, const std::string& where) {
  WeightScheme scheme;
  scheme.bits = read.bits;
  scheme.symmetric = read.symmetric;
  if (read.dynamic) throw Error(where + ".dynamic", "is true, but the scales of weights are stored");
  if (read.strategy == "channel") {
    scheme.granularity = Granularity::kChannel;
  } else if (read.strategy == "group") {
    scheme.granularity = Granularity::kGroup;
    scheme.group = read.group;
    if (read.group < 1) throw Error(where + ".group_size", "is " + std::to_string(read.group));
  } else if (read.strategy != "tensor") {
    throw Error(where + ".strategy", "\"" + read.strategy + "\" is not read of weights",
                "tensor, channel or group");
  }
  return scheme;
}

ActivationScheme inputs_of(const Arguments& read, const std::string& where) {
  if (read.dynamic != (read.strategy == "token") || (!read.dynamic && read.strategy != "tensor")) {
    throw Error(where + ".strategy",
                "\"" + read.strategy + "\" with \"dynamic\": " + (read.dynamic ? "true" : "false") +
                    " is not read of inputs",
                "token if they are dynamic, else tensor");
  }
  if (!read.dynamic && !read.symmetric)
    throw Error(where + ".symmetric", "is false: zero points of static inputs are not read");
  return {read.bits, read.symmetric, read.dynamic, 0};
}

bool is_packed(const std::string& format, const std::string& where) {
  if (format == "pack-quantized") return true;
  if (format == "int-quantized") return false;
  throw Error(where, "the format \"" + format + "\" is not read", "int-quantized or pack-quantized");
}

}  // namespace

Json group_json(const LinearScheme& scheme, const std::vector<std::string>& targets) {
  const WeightScheme& w = scheme.weights;
  const bool groups = w.granularity == Granularity::kGroup;
  Json inputs;
  if (scheme.inputs) {
    const ActivationScheme& x = *scheme.inputs;
    inputs = arguments_json(x.bits, x.symmetric, x.per_token ? "token" : "tensor", nullptr, x.per_token);
  }
  return {{"targets", targets},
          {"weights", arguments_json(w.bits, w.symmetric, granularity_name(w.granularity),
                                     groups ? Json(w.group) : Json(nullptr), false)},
          {"input_activations", inputs},
          {"output_activations", nullptr},
          {"format", scheme.format()}};
}

int CompressedTensorsConfig::Names::rank(const std::string& name) const {
  if (exact.contains(name)) return 3;
  const bool matched = std::any_of(expressions.begin(), expressions.end(),
                                   [&name](const NameExpression& e) { return e.matches_start_of(name); });
  if (matched) return 2;
  return all_linears ? 1 : 0;
}

CompressedTensorsConfig::Names CompressedTensorsConfig::read_names(const Json& json,
                                                                   const std::string& where) {
  Names names;
  if (json.is_null()) return names;
  if (!json.is_array())
    throw Error(where, std::string("expected a list of names, found ") + json.type_name());
  if (json.size() > kMostNames) {
    throw Error(where, "has " + std::to_string(json.size()) + " names; at most " +
                           std::to_string(kMostNames) + " are read");
  }
  for (const Json& item : json) {
    if (!item.is_string()) throw Error(where, "expected a name, found " + std::string(item.type_name()));
    const auto name = item.get<std::string>();
    if (name.starts_with(kExpression)) {
      names.expressions.emplace_back(name.substr(std::string(kExpression).size()), where);
    } else if (name == kLinearClass) {
      names.all_linears = true;
    } else {
      names.exact.insert(name);
    }
  }
  return names;
}

CompressedTensorsConfig::Group CompressedTensorsConfig::read_group(const Json& json, const std::string& name,
                                                                   const std::string& where,
                                                                   const std::string& top_format) {
  if (json.is_array()) throw Error(where, "names a preset scheme by its key; that is not read");
  JsonFields fields(json, where);
  Group group{.name = name, .targets = read_names(fields.at("targets"), where + ".targets"), .scheme = {}};
  const std::string format = has_value(fields, "format") ? fields.string("format", "") : top_format;
  group.scheme.packed = is_packed(format, where + ".format");
  if (!has_value(fields, "weights")) throw Error(where + ".weights", "a group without weights is not read");
  group.scheme.weights =
      weights_of(read_arguments(fields.at("weights"), where + ".weights"), where + ".weights");
  if (has_value(fields, "input_activations")) {
    const std::string inputs = where + ".input_activations";
    group.scheme.inputs = inputs_of(read_arguments(fields.at("input_activations"), inputs), inputs);
  }
  if (has_value(fields, "output_activations"))
    throw Error(where + ".output_activations", "outputs that are rounded are not computed");
  fields.finish(ExitCode::kFailed);
  return group;
}

CompressedTensorsConfig::CompressedTensorsConfig(const Json& quantization_config, const std::string& where)
    : where_(where) {
  JsonFields fields(quantization_config, where);
  const std::string method = fields.string("quant_method", "");
  if (method != kCompressedTensors) throw Error(where + ".quant_method", "is \"" + method + "\"");
  const std::string status = fields.string("quantization_status", "compressed");
  if (status != "compressed")
    throw Error(where + ".quantization_status", "is \"" + status + "\"; \"compressed\" is read");
  const std::string format = fields.string("format", "");
  for (const char* key : {"transform_config", "sparsity_config", "kv_cache_scheme", "moe_sparsity_config"}) {
    if (!has_value(fields, key) || fields.at(key).empty()) continue;
    throw Error(where + "." + key, "what it asks for is not computed by this program",
                "a checkpoint without it");
  }
  // Of loaders and of statistics.
  for (const char* key : {"version", "global_compression_ratio", "dequantize", "run_compressed"})
    fields.has(key);
  if (has_value(fields, "ignore")) ignore_ = read_names(fields.at("ignore"), where + ".ignore");
  const Json& groups = fields.at("config_groups");
  if (!groups.is_object() || groups.empty() || groups.size() > kMostNames)
    throw Error(where + ".config_groups",
                "expected an object of groups, found " + std::string(groups.type_name()));
  for (const auto& [name, group] : groups.items())
    groups_.push_back(read_group(group, name, where + ".config_groups." + name, format));
  fields.finish(ExitCode::kFailed);
}

const LinearScheme* CompressedTensorsConfig::scheme_of(const std::string& name) const {
  if (ignore_.rank(name) > 0) return nullptr;
  const Group* best = nullptr;
  int best_rank = 0;
  for (const Group& group : groups_) {
    const int rank = group.targets.rank(name);
    if (rank == 0 || rank < best_rank) continue;
    if (rank == best_rank && !(group.scheme == best->scheme)) {
      throw Error(where_ + ".config_groups",
                  best->name + " and " + group.name + " claim " + name + " alike, under different schemes");
    }
    best = &group;
    best_rank = rank;
  }
  return best == nullptr ? nullptr : &best->scheme;
}

}  // namespace ptq
