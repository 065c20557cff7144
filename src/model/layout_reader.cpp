#include "model/layout_reader.h"

#include <algorithm>

#include "model/config_keys.h"
#include "model/outer_weights.h"

namespace ptq {
namespace {

constexpr double kMaxNumber = 1e12;

const Json& object_of(const Json& config, const std::string& architecture) {
  if (config.is_object()) return config;
  throw Error("config.json", "is missing, and the shapes of a " + architecture + " do not tell all of it",
              "--config names the model's config.json");
}

}  // namespace

LayoutReader::LayoutReader(const WeightSource& source, std::string architecture, std::string embedding,
                           std::string layers, bool tied)
    : fields(object_of(source.config(), architecture), "config.json"),
      source_(source),
      architecture_(std::move(architecture)),
      layers_(std::move(layers)) {
  const Json& config = source.config();
  num_layers = count_layers(source, layers_, config, {"num_hidden_layers"});
  fields.has("num_hidden_layers");
  const std::vector<int64_t> shape = need(source, embedding, 2).shape;
  hidden = shape[1];
  expect_equal(fields, {"vocab_size"}, shape[0]);
  model.embedding = std::move(embedding);
  model.start_token = StartToken(fields, shape[0]);
  model.tied = states_tied_head(config, tied);
  for (const char* key : {"tie_word_embeddings", "tie_embeddings"}) fields.has(key);
  model.config = config;
}

int64_t LayoutReader::count(const char* key, int64_t fallback) {
  return fields.has(key) ? read_count(fields, key) : fallback;
}

double LayoutReader::positive(const char* key, double fallback) {
  const double value = fields.number(key, fallback);
  if (value > 0 && value <= kMaxNumber) return value;
  throw Error(config_place(fields, key), "is " + Json(value).dump() + "; it must lie between 0 and 1e+12");
}

double LayoutReader::positive_or_off(const char* key, double fallback) {
  const bool stated = source_.config().contains(key);
  if (!fields.has(key)) return stated ? 0 : fallback;
  const Json& value = fields.at(key);
  return value == false || value == 0 ? 0 : positive(key, fallback);
}

double LayoutReader::eps(const char* key, double fallback) {
  const double value = fields.number(key, fallback);
  if (value > 0 && value < 1) return value;
  throw Error(config_place(fields, key), "is " + Json(value).dump() + "; it must lie between 0 and 1");
}

std::vector<double> LayoutReader::numbers(const char* key, size_t size) {
  std::vector<double> values(size, 1);
  if (!fields.has(key)) return values;
  const Json& list = fields.at(key);
  const bool fits = list.is_array() && list.size() == size &&
                    std::all_of(list.begin(), list.end(), [](const Json& v) { return v.is_number(); });
  if (!fits) throw Error(config_place(fields, key), "must be a list of " + std::to_string(size) + " numbers");
  for (size_t i = 0; i < size; ++i) values[i] = list[i].get<double>();
  return values;
}

Rope LayoutReader::rope(int64_t head_dim, std::optional<double> partial) {
  for (const char* key : kRopeKeys) fields.has(key);
  return read_rope(source_.config(), head_dim, model.context_limit, model.warnings, partial);
}

std::vector<std::string> LayoutReader::layer_types(const char* key, const std::vector<std::string>& known) {
  std::vector<std::string> types;
  if (!fields.has(key)) return types;
  const Json& list = fields.at(key);
  if (!list.is_array() || static_cast<int64_t>(list.size()) != num_layers) {
    throw Error(config_place(fields, key), "must be an array of " + std::to_string(num_layers) +
                                               " types, one for each layer of the checkpoint");
  }
  for (const Json& stated : list) {
    std::string type = stated.is_string() ? stated.get<std::string>() : stated.dump();
    if (type == "mamba") type = "linear_attention";
    if (type == "attention") type = "full_attention";
    if (std::find(known.begin(), known.end(), type) == known.end())
      throw Error(config_place(fields, key), "the type " + Json(type).dump() + " is not supported");
    types.push_back(type);
  }
  return types;
}

std::vector<bool> LayoutReader::listed_layers(const char* key) {
  std::vector<bool> listed(static_cast<size_t>(num_layers), false);
  if (!fields.has(key)) return listed;
  const Json& list = fields.at(key);
  for (const Json& index : list.is_array() ? list : Json::array({list})) {
    if (!index.is_number_integer() || index < 0 || index >= num_layers)
      throw Error(config_place(fields, key),
                  "holds " + index.dump() + ", which is no layer of " + std::to_string(num_layers));
    listed[index.get<size_t>()] = true;
  }
  return listed;
}

ModelLayout LayoutReader::finish(const std::vector<const char*>& harmless) {
  check_config_keys(fields, source_.config(), architecture_, harmless, model.warnings);
  return std::move(model);
}

}  // namespace ptq
