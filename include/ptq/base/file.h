// Reading files: whole, or mapped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "ptq/base/interrupt.h"

namespace ptq {

// Reads a regular file. Throws Error if it is missing, not a regular file, unreadable or larger than
// max_bytes.
std::string read_file(const std::string& path, size_t max_bytes = size_t{1} << 31);

// The bytes of a file, mapped privately: pages come from disk when touched and can be dropped again.
// A file that others cut off while it is mapped ends the process when a page that is gone is touched, with a
// message that names it (WatchedMapping).
class MappedFile {
 public:
  // Throws Error if the file cannot be opened, is empty or is not a regular file; of a symbolic link that
  // leads nowhere the message says so. With `use_mmap` false the file is not mapped: bytes() is not available
  // and read_into() is used instead.
  static std::shared_ptr<MappedFile> open(const std::string& path, bool use_mmap = true);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  size_t size() const { return size_; }
  bool mapped() const { return data_ != nullptr; }
  // The whole file. REQUIRES: mapped().
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  // Copies `out.size()` bytes from `offset`. Works mapped or not. Throws Error past the end or on a read
  // error.
  void read_into(size_t offset, std::span<std::byte> out) const;
  // Tells the system that the range will not be needed soon: its pages leave resident memory and are read
  // again from disk when touched.
  void drop(size_t offset, size_t length) const;

 private:
  MappedFile() = default;
  std::string path_;
  int fd_ = -1;
  size_t size_ = 0;
  const std::byte* data_ = nullptr;
  std::optional<WatchedMapping> watched_;
};

// The name of the file or directory that `path` leads to: "model" for "x/model", "x/model/" and
// "x/model/y/..", the working directory's own for ".". A symbolic link has its own name.
std::string last_name(const std::string& path);

}  // namespace ptq
