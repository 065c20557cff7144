#include "ptq/base/download.h"

#include <algorithm>
#include <cctype>

namespace ptq {
namespace {

constexpr const char* kAgain = "download the file again, logged in if the model is gated";

bool begins_with(std::string_view text, std::string_view lower_case) {
  return text.size() >= lower_case.size() &&
         std::equal(lower_case.begin(), lower_case.end(), text.begin(), [](char wanted, char c) {
           return wanted == std::tolower(static_cast<unsigned char>(c));
         });
}

}  // namespace

std::optional<Mistaken> mistaken_download(std::string_view head) {
  if (head.starts_with("version https://git-lfs"))
    return Mistaken{"a Git LFS pointer, not the file itself", "git lfs pull"};
  if (head.starts_with("\xef\xbb\xbf")) head.remove_prefix(3);
  head.remove_prefix(std::min(head.find_first_not_of(" \t\r\n"), head.size()));
  if (begins_with(head, "<!doctype html") || begins_with(head, "<html"))
    return Mistaken{"an HTML page, such as a server sends in place of a file", kAgain};
  if (begins_with(head, "<?xml"))
    return Mistaken{"an XML document, such as a server sends as an error", kAgain};
  return std::nullopt;
}

}  // namespace ptq
