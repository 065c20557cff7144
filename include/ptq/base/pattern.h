// Names chosen by pattern.
#pragma once

#include <string>

namespace ptq {

// True if the shell pattern (*, ?) matches the whole name.
bool matches_pattern(const std::string& pattern, const std::string& name);

}  // namespace ptq
