// What a file is that is no text, by its first bytes.
#pragma once

#include <string_view>

namespace ptq {

struct FileKind {
  std::string_view what;  // "a Parquet file"; empty: nothing that is known
  std::string_view hint;  // what to do with it
};

inline constexpr std::string_view kGzipMagic = "\x1F\x8B";

// `head` is the beginning of the file, a few hundred bytes if it has as many.
FileKind kind_by_magic(std::string_view head);

}  // namespace ptq
