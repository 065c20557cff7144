// The tokens that end a text.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ptq/base/json.h"

namespace ptq {

// "eos_token_id", a number or several: of generation_config.json in `directory` if it is there and has one,
// else of `config`, the model's. None if neither has one, or it is null. Throws Error for anything else.
std::vector<int64_t> end_tokens(const Json& config, const std::string& directory);

}  // namespace ptq
