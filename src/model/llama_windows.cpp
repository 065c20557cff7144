#include "model/llama_windows.h"

#include "ptq/base/error.h"

namespace ptq {
namespace {

const std::string kWhere = "config.json: ";
const char* const kFull = "full_attention";
const char* const kSliding = "sliding_attention";
constexpr int64_t kDefaultSize = 4096;  // transformers'
constexpr int64_t kMaxSize = int64_t{1} << 31;

int64_t read_size(JsonFields& fields) {
  const int64_t size = fields.integer("sliding_window", 0);
  if (size >= 1 && size <= kMaxSize) return size;
  throw Error(kWhere + "sliding_window",
              "is " + std::to_string(size) + "; it must lie between 1 and " + std::to_string(kMaxSize));
}

// The types of all layers; empty if the configuration does not state them.
std::vector<std::string> layer_types(JsonFields& fields, int64_t layers) {
  std::vector<std::string> types;
  if (!fields.has("layer_types")) return types;
  const Json& stated = fields.at("layer_types");
  if (!stated.is_array() || static_cast<int64_t>(stated.size()) != layers) {
    throw Error(kWhere + "layer_types", "must be an array of " + std::to_string(layers) +
                                            " types, one for each layer of the checkpoint");
  }
  for (const Json& type : stated) {
    if (type != kFull && type != kSliding)
      throw Error(kWhere + "layer_types", "the type " + type.dump() + " is not supported");
    types.push_back(type.get<std::string>());
  }
  return types;
}

}  // namespace

std::vector<int64_t> read_windows(const Json& config, Windows kind, const std::string& architecture,
                                  int64_t layers, std::vector<std::string>& warnings) {
  JsonFields fields(config, "config.json");
  const auto unread = [&](const std::string& what) {
    warnings.push_back(kWhere + what + ", which a " + architecture +
                       " does not read: ignored, as in transformers");
  };
  // A null switches the window off; where the key is absent, transformers' default is in force.
  const bool has_size = fields.has("sliding_window");
  const bool asked = fields.boolean("use_sliding_window", kind == Windows::kAllLayers);
  bool in_use = kind != Windows::kNone && (has_size || !config.contains("sliding_window"));
  if (kind == Windows::kByLayer) in_use = in_use && asked;
  if (kind == Windows::kNone && has_size) unread("sliding_window is " + fields.at("sliding_window").dump());
  if (kind == Windows::kNone && asked) unread("use_sliding_window is true");
  if (kind == Windows::kAllLayers && in_use && !asked) unread("use_sliding_window is false");
  const int64_t size = in_use && has_size ? read_size(fields) : kDefaultSize;
  const int64_t first = kind == Windows::kByLayer ? fields.integer("max_window_layers", 28) : 0;

  const std::vector<std::string> types = layer_types(fields, layers);
  std::vector<int64_t> windows;
  for (int64_t i = 0; i < layers; ++i) {
    bool sliding = in_use && i >= first;
    if (!types.empty()) {
      const bool stated = types[static_cast<size_t>(i)] == kSliding;
      if (kind != Windows::kByLayer && stated != sliding) {
        throw Error(kWhere + "layer_types", "layer " + std::to_string(i) + " has " +
                                                types[static_cast<size_t>(i)] + ", but a " + architecture +
                                                " has " + (sliding ? kSliding : kFull) + " in all layers");
      }
      sliding = stated;
    }
    if (sliding && !in_use)
      throw Error(kWhere + "layer_types", "layers have sliding attention, but no sliding window is in use");
    windows.push_back(sliding ? size : 0);
  }
  return windows;
}

}  // namespace ptq
