// Which keys of a configuration are done, which change nothing, and which are refused.
#pragma once

#include <string>
#include <vector>

#include "ptq/base/json.h"

namespace ptq {

// A key that changes what a model computes, in a way that no architecture here does.
struct RefusedKey {
  const char* name;
  std::vector<Json> neutral = {};  // the values, besides null, false and what is empty, that change nothing
};

// What an architecture makes of a configuration.
struct ConfigKeys {
  std::string architecture;              // for messages
  std::vector<const char*> done;         // it reads them, and refuses the values that it cannot do
  std::vector<const char*> harmless;     // besides those that are harmless everywhere; shell patterns
  std::vector<RefusedKey> refused = {};  // besides those that are refused everywhere
};

// Throws Error, naming it, for a key that changes the computation and is not done, unless its value is
// neutral. Keys in no list, unless null, false or empty, are named in one warning. A null `config` has none.
void check_config_keys(const Json& config, const ConfigKeys& keys, std::vector<std::string>& warnings);

// The same, where the architecture has asked `fields` for every key that it does.
void check_config_keys(const JsonFields& fields, const Json& config, const std::string& architecture,
                       const std::vector<const char*>& harmless, std::vector<std::string>& warnings);

}  // namespace ptq
