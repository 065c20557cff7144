// Walking through sorted strings byte by byte: those with a common beginning are neighbours.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace ptq {

// Of the entries [begin, end), whose texts agree in their first `depth` bytes and are longer, those whose
// next byte is `byte`: their range.
template <typename Entry>
std::pair<uint32_t, uint32_t> with_byte(const std::vector<Entry>& entries, uint32_t begin, uint32_t end,
                                        size_t depth, char byte) {
  const auto wanted = static_cast<unsigned char>(byte);
  const auto byte_of = [depth](const Entry& entry) { return static_cast<unsigned char>(entry.text[depth]); };
  const auto first =
      std::lower_bound(entries.begin() + begin, entries.begin() + end, wanted,
                       [&](const Entry& entry, unsigned char value) { return byte_of(entry) < value; });
  const auto last =
      std::upper_bound(first, entries.begin() + end, wanted,
                       [&](unsigned char value, const Entry& entry) { return value < byte_of(entry); });
  return {static_cast<uint32_t>(first - entries.begin()), static_cast<uint32_t>(last - entries.begin())};
}

}  // namespace ptq
