// One file of results that appears whole or not at all.
#pragma once

#include <string>
#include <string_view>

namespace ptq {

// Throws Error if write_result() would refuse the path: it exists and `force` is false; it exists and is no
// regular file, which --force does not replace; its directory does not exist. For use before the work that
// makes the result.
void expect_writable_result(const std::string& path, bool force);

// Writes `text` beside `path`, flushes it to disk and renames it in one system call. With `force` a regular
// file of that name is replaced. Throws Error, and then `path` is as it was.
void write_result(const std::string& path, std::string_view text, bool force);

}  // namespace ptq
