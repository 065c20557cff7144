#include "export/gguf/rope.h"

#include <charconv>
#include <cmath>
#include <numbers>

#include "ptq/base/error.h"

namespace ptq {
namespace {

struct Llama3 {
  double factor, low, high, original;
};

const Json& parameters(const Json& config) {
  static const Json nothing = Json::object();
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (config.contains(key) && config.at(key).is_object() && !config.at(key).empty()) return config.at(key);
  }
  return nothing;
}

std::string type_of(const Json& rope) {
  const Json type = rope.value("rope_type", rope.value("type", Json("default")));
  return type.is_string() ? type.get<std::string>() : "?";
}

double theta_of(const Json& config) {
  const Json& rope = parameters(config);
  if (rope.contains("rope_theta")) return rope.at("rope_theta").get<double>();
  if (config.contains("rope_parameters") && config.at("rope_parameters").contains("rope_theta"))
    return config.at("rope_parameters").at("rope_theta").get<double>();
  return config.value("rope_theta", config.value("rotary_emb_base", Json(1e4))).get<double>();
}

// By which the frequencies of pairs are divided: the factor for long wavelengths, 1 for short ones.
Tensor llama3_factors(const Llama3& rope, double theta, int64_t head_dim) {
  const Tensor plain =
      1 / at::pow(theta, at::arange(0, head_dim, 2, at::kDouble) / static_cast<double>(head_dim));
  const Tensor turns = rope.original / (2 * std::numbers::pi / plain);
  const Tensor smooth = ((turns - rope.low) / (rope.high - rope.low)).clamp(0, 1);
  return (1 / ((1 - smooth) / rope.factor + smooth)).to(at::kFloat);
}

double decimal(double value) {
  char text[32];
  const auto [end, failed] = std::to_chars(text, text + sizeof(text), static_cast<float>(value));
  double meant = value;
  if (failed == std::errc()) std::from_chars(text, end, meant);
  return meant;
}

}  // namespace

void add_rope(const std::string& prefix, const Json& config, GgufMetadata& metadata) {
  const Json& rope = parameters(config);
  const std::string type = type_of(rope);
  metadata.add(prefix + "rope.freq_base", static_cast<float>(theta_of(config)));
  if (type == "linear") {
    metadata.add(prefix + "rope.scaling.type", "linear");
    metadata.add(prefix + "rope.scaling.factor", rope.at("factor").get<float>());
  } else if (type != "default" && type != "llama3") {
    throw Error("config.json", "the rope type \"" + type + "\" is not written into a GGUF",
                "a model with default, linear or llama3 rope, or another --format");
  }
}

Tensor rope_factors(const Json& config) {
  const Json& rope = parameters(config);
  if (type_of(rope) != "llama3") return {};
  const auto number = [&](const char* key) { return rope.at(key).get<double>(); };
  const char* const original = "original_max_position_embeddings";
  const double limit = config.contains(original) ? config.at(original).get<double>() : number(original);
  return llama3_factors({number("factor"), number("low_freq_factor"), number("high_freq_factor"), limit},
                        theta_of(config), config.at("head_dim").get<int64_t>());
}

bool is_rope_key(const std::string& key) {
  return key == "rope.freq_base" || key == "rope.scaling.type" || key == "rope.scaling.factor";
}

void read_rope_keys(const std::string& architecture, const GgufFile& file, Json& config,
                    const std::string& where) {
  const auto find = [&](const char* key) -> const GgufValue* {
    const auto found = file.metadata.find(architecture + ".rope." + key);
    return found == file.metadata.end() ? nullptr : &found->second;
  };
  const auto real = [&](const char* key, double fallback) {
    const GgufValue* value = find(key);
    if (value == nullptr) return fallback;
    if (const double* number = std::get_if<double>(value)) return decimal(*number);
    throw Error(where, architecture + ".rope." + key + " is no real number");
  };
  config["rope_theta"] = real("freq_base", 1e4);
  const GgufValue* type = find("scaling.type");
  const std::string* name = type == nullptr ? nullptr : std::get_if<std::string>(type);
  if (type == nullptr || (name != nullptr && *name == "none")) return;
  if (name == nullptr || *name != "linear")
    throw Error(where, architecture + ".rope.scaling.type is not one that is read", "none or linear");
  config["rope_scaling"] = {{"rope_type", "linear"}, {"factor", real("scaling.factor", 1)}};
}

void read_rope_factors(const Tensor& factors, Json& config, const std::string& where) {
  // The factors do not tell the four numbers apart; published models have these.
  const double factor = factors.max().item<double>(), theta = config.at("rope_theta").get<double>();
  for (const double original : {8192.0, 4096.0, 16384.0, 32768.0}) {
    const Llama3 rope{decimal(factor), 1, 4, original};
    const Tensor expected = llama3_factors(rope, theta, factors.numel() * 2);
    if (!at::allclose(expected, factors, 1e-4, 0)) continue;
    config["rope_scaling"] = {{"rope_type", "llama3"},
                              {"factor", rope.factor},
                              {"low_freq_factor", rope.low},
                              {"high_freq_factor", rope.high},
                              {"original_max_position_embeddings", rope.original}};
    return;
  }
  throw Error(where,
              std::string(kRopeFactors) + " holds factors that are not those of a published llama3 rope");
}

}  // namespace ptq
