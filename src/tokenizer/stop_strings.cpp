#include "ptq/tokenizer/stop_strings.h"

#include <algorithm>
#include <utility>

namespace ptq {
namespace {

// The longest end of `text` that is a beginning of `string`, in bytes.
size_t overlap(std::string_view text, std::string_view string) {
  size_t bytes = std::min(text.size(), string.size() - 1);
  while (bytes > 0 && !text.ends_with(string.substr(0, bytes))) --bytes;
  return bytes;
}

}  // namespace

std::string StopStrings::add(std::string_view piece) {
  if (found_) return "";
  held_ += piece;
  size_t begin = 0, end = std::string::npos;
  for (const std::string& string : strings_) {
    const size_t at = held_.find(string);
    if (at == std::string::npos) continue;
    const size_t last = at + string.size();
    if (end != std::string::npos && (last > end || (last == end && at > begin))) continue;
    begin = at;
    end = last;
  }
  found_ = end != std::string::npos;
  size_t shown = begin;
  if (!found_) {
    size_t waiting = 0;
    for (const std::string& string : strings_) waiting = std::max(waiting, overlap(held_, string));
    shown = held_.size() - waiting;
  }
  std::string text = held_.substr(0, shown);
  held_.erase(0, found_ ? held_.size() : shown);
  return text;
}

std::string StopStrings::finish() {
  return std::exchange(held_, {});
}

}  // namespace ptq
