// What people get in place of the file that they wanted: pointers of Git LFS, pages and messages of servers.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace ptq {

struct Mistaken {
  std::string what;  // "a Git LFS pointer, not the file itself"
  std::string hint;
};

// Tells by the first bytes of a file; nullopt for anything else.
std::optional<Mistaken> mistaken_download(std::string_view head);

}  // namespace ptq
