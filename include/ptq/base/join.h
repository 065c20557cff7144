// Lists as text.
#pragma once

#include <string>
#include <vector>

namespace ptq {

// The parts in order with `between` between them, empty ones at the beginning left out.
inline std::string join(const std::vector<std::string>& parts, const std::string& between) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : between) + part;
  return text;
}

}  // namespace ptq
