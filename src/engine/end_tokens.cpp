#include "ptq/engine/end_tokens.h"

#include <filesystem>

#include "ptq/base/error.h"

namespace ptq {
namespace {

constexpr const char* kKey = "eos_token_id";

bool states_one(const Json& config) {
  return config.is_object() && config.contains(kKey) && !config[kKey].is_null();
}

std::vector<int64_t> tokens_of(const Json& config, const std::string& where) {
  std::vector<int64_t> ids;
  const Json& value = config[kKey];
  for (const Json& id : value.is_array() ? value : Json::array({value})) {
    if (!id.is_number_integer())
      throw Error(where, std::string(kKey) + " is " + value.dump() + ", not a token id or several",
                  "--ignore-eos");
    ids.push_back(id.get<int64_t>());
  }
  return ids;
}

}  // namespace

std::vector<int64_t> end_tokens(const Json& config, const std::string& directory) {
  const std::filesystem::path path = std::filesystem::path(directory) / "generation_config.json";
  std::error_code failed;
  if (std::filesystem::exists(path, failed)) {
    std::vector<std::string> repeated;
    const Json generation = read_python_json_file(path.string(), JsonLimits(), repeated);
    if (states_one(generation)) return tokens_of(generation, path.string());
  }
  return states_one(config) ? tokens_of(config, "config.json") : std::vector<int64_t>();
}

}  // namespace ptq
