// Inputs that can be read only once: pipes, and what else is no file.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

namespace ptq {

// Whether `path` names a pipe, a socket or a character device, e.g. /dev/stdin or what a shell's <(...)
// gives.
bool is_stream(const std::string& path);

// All that comes out of a stream, up to its end. Waits for its writer. Throws Error if it cannot be opened or
// read, and for more than `max_bytes`: it is held in memory.
std::string read_stream(const std::string& path, size_t max_bytes);

// What comes out of `path` if it is a stream, for a text; null if it is not.
std::shared_ptr<const std::string> text_of_stream(const std::string& path);

}  // namespace ptq
