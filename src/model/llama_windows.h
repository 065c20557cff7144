// Which layers of a Llama-like transformer attend through a window.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ptq/base/json.h"

namespace ptq {

enum class Windows { kNone, kAllLayers, kByLayer };

// [layers]: how many tokens a query of the layer sees, its own included; 0: all before it. `kind` is what
// `architecture` does. Throws Error if the configuration says something else of layers; what it says of
// windows and the architecture does not read goes into `warnings`.
std::vector<int64_t> read_windows(const Json& config, Windows kind, const std::string& architecture,
                                  int64_t layers, std::vector<std::string>& warnings);

}  // namespace ptq
