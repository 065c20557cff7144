// Bytes of a file at any offset, whatever holds them, and numbers read from them with every length checked.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "ptq/base/file.h"

namespace ptq {

// Little-endian. REQUIRES: offset + sizeof(T) <= bytes.size().
template <std::unsigned_integral T>
T load_le(std::span<const std::byte> bytes, size_t offset = 0) {
  T value = 0;
  for (size_t i = sizeof(T); i-- > 0;) {
    value = static_cast<T>((static_cast<uint64_t>(value) << 8) | static_cast<uint64_t>(bytes[offset + i]));
  }
  return value;
}

inline std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// A name from a file, fit for a message: other than printable ASCII becomes \xNN, long names are cut.
std::string printable(std::string_view name);

// Part of a source. `bytes` stay valid while `owner` lives.
struct Slice {
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> owner;
};

// A mapped file, a file that is read, or memory. Copies share what they refer to.
class ByteSource {
 public:
  explicit ByteSource(std::shared_ptr<const MappedFile> file);
  // `memory` must outlive the source and every slice. `path` is for messages.
  ByteSource(std::span<const std::byte> memory, std::string path);

  const std::string& path() const { return path_; }
  size_t size() const { return size_; }
  // True if slices point to the bytes themselves and cost nothing.
  bool in_memory() const { return file_ == nullptr || file_->mapped(); }
  // True if [offset, offset + length) lies inside.
  bool contains(uint64_t offset, uint64_t length) const {
    return offset <= size_ && length <= size_ - offset;
  }
  // Throws Error if the range is not inside, or on a read error. Allocates only if not in_memory().
  Slice slice(size_t offset, size_t length) const;
  // Copies. Throws as slice() does.
  void read(size_t offset, std::span<std::byte> out) const;
  // See MappedFile::drop; nothing for memory.
  void drop(size_t offset, size_t length) const;

 private:
  std::shared_ptr<const MappedFile> file_;
  std::span<const std::byte> memory_;
  std::string path_;
  size_t size_ = 0;
};

// Reads a span from start to end. Every read past the end throws Error with `where` and the position.
class ByteCursor {
 public:
  ByteCursor(std::span<const std::byte> bytes, std::string where) : bytes_(bytes), where_(std::move(where)) {}

  size_t position() const { return position_; }
  size_t remaining() const { return bytes_.size() - position_; }
  const std::string& where() const { return where_; }
  std::span<const std::byte> take(uint64_t length);
  template <std::unsigned_integral T>
  T number() {
    return load_le<T>(take(sizeof(T)));
  }
  // The text up to the next newline, which is consumed and not returned.
  std::string_view line();

 private:
  std::span<const std::byte> bytes_;
  std::string where_;
  size_t position_ = 0;
};

}  // namespace ptq
