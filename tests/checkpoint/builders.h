// Small files made byte by byte, so that the tests can make them wrong in one place.
#pragma once

#include <concepts>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/bytes.h"
#include "ptq/base/error.h"

namespace ptq::testing {

// Little-endian.
template <std::integral T>
std::string le(T value) {
  std::string bytes;
  for (size_t i = 0; i < sizeof(T); ++i) bytes += static_cast<char>(static_cast<uint64_t>(value) >> (8 * i));
  return bytes;
}

inline std::span<const std::byte> as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text));
}
inline ByteSource source_of(std::string_view bytes) {
  return ByteSource(as_bytes(bytes), "test");
}

// A directory that is gone after the test.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  std::string path(const std::string& name = "") const { return (path_ / name).string(); }
  // Returns the path.
  std::string write(const std::string& name, std::string_view bytes) const;

 private:
  std::filesystem::path path_;
};

// The message of the Error that `action` throws; fails the test if it throws none.
std::string error_of(const std::function<void()>& action);

inline bool has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

std::string safetensors(std::string_view header, std::string_view data);

struct ZipPart {
  std::string name;
  std::string data = "";
  uint16_t method = 0;
  uint16_t flags = 0;
  uint32_t crc_flip = 0;
  uint32_t extra_bytes = 0;  // claimed beyond what is there
};
// An archive; with `zip64` every size and offset is in the 64-bit fields.
std::string zip(const std::vector<ZipPart>& parts, bool zip64 = false, std::string_view comment = "");

// Pickle operations. A program is their concatenation.
namespace pickle {
std::string text(std::string_view value);
std::string number(int64_t value);
std::string global(std::string_view module, std::string_view name);
std::string tuple(std::initializer_list<std::string> items);
std::string tuple(const std::vector<int64_t>& values);
std::string call(const std::string& callable, const std::string& arguments);
// {"key": value, ...}
std::string dict(std::initializer_list<std::pair<std::string, std::string>> entries);
std::string storage(std::string_view type, std::string_view key, int64_t elements);
std::string tensor(const std::string& storage, int64_t offset, const std::vector<int64_t>& shape,
                   const std::vector<int64_t>& strides);
// The whole: protocol, body, stop.
std::string program(const std::string& body, int protocol = 2);
}  // namespace pickle

// What torch.save writes for an object whose storages are given by key.
std::string torch_archive(const std::string& body,
                          std::initializer_list<std::pair<std::string, std::string>> storages);
std::string torch_legacy(const std::string& body, std::initializer_list<std::string> keys,
                         std::string_view storages);

}  // namespace ptq::testing
