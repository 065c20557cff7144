// The bytes of a text input, in pieces.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace ptq {

class ByteReader {
 public:
  virtual ~ByteReader() = default;
  // Fills `out` with the next bytes; fewer than it holds come only at the end. Throws Error.
  virtual size_t read(std::span<char> out) = 0;
};

// Of a regular file, or of `content` in its place if it is not null (which must live as long). Throws Error
// if the file is missing or is not a regular one.
std::unique_ptr<ByteReader> open_bytes(const std::string& path, std::shared_ptr<const std::string> content);

// `head` and then what is left of `rest`.
std::unique_ptr<ByteReader> put_back(std::string head, std::unique_ptr<ByteReader> rest);

// What the gzip data in `compressed` holds: all members, one after the other. Memory is bounded whatever they
// expand to. `path` is for messages. read() throws Error for data that is damaged, ends early, or is followed
// by anything but zeros.
std::unique_ptr<ByteReader> gunzip(std::unique_ptr<ByteReader> compressed, const std::string& path);

}  // namespace ptq
