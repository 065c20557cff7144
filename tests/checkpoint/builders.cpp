#include "builders.h"

#include <gtest/gtest.h>
#include <unistd.h>
#include <zlib.h>

#include <atomic>
#include <fstream>

namespace ptq::testing {

TempDir::TempDir() {
  static std::atomic<int> counter{0};
  path_ = std::filesystem::temp_directory_path() /
          ("ptq_checkpoint_test." + std::to_string(::getpid()) + "." + std::to_string(counter++));
  std::filesystem::create_directories(path_);
}

TempDir::~TempDir() {
  std::error_code error;
  std::filesystem::remove_all(path_, error);
}

std::string TempDir::write(const std::string& name, std::string_view bytes) const {
  std::ofstream(path(name), std::ios::binary) << bytes;
  return path(name);
}

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "no Error was thrown";
  return "";
}

std::string safetensors(std::string_view header, std::string_view data) {
  return le<uint64_t>(header.size()) + std::string(header) + std::string(data);
}

namespace {

std::string local_header(const ZipPart& part, uint32_t crc) {
  // The extra field pads the data, and is longer than the directory's.
  const std::string extra = "FB" + le<uint16_t>(6) + "PADDED";
  const auto bytes = static_cast<uint32_t>(part.data.size());
  return "PK\x03\x04" + le<uint16_t>(20) + le(part.flags) + le(part.method) + le<uint32_t>(0) + le(crc) +
         le(bytes) + le(bytes) + le(static_cast<uint16_t>(part.name.size())) +
         le(static_cast<uint16_t>(extra.size())) + part.name + extra;
}

std::string directory_entry(const ZipPart& part, uint32_t crc, uint64_t offset, bool zip64) {
  const uint64_t bytes = part.data.size() + part.extra_bytes;
  const std::string wide = le<uint16_t>(1) + le<uint16_t>(24) + le(bytes) + le(bytes) + le(offset);
  const std::string extra = zip64 ? wide : "";
  const auto narrow = [&](uint64_t value) { return le(zip64 ? UINT32_MAX : static_cast<uint32_t>(value)); };
  return "PK\x01\x02" + le<uint32_t>(20) + le(part.flags) + le(part.method) + le<uint32_t>(0) + le(crc) +
         narrow(bytes) + narrow(bytes) + le(static_cast<uint16_t>(part.name.size())) +
         le(static_cast<uint16_t>(extra.size())) + le<uint64_t>(0) + le<uint16_t>(0) + narrow(offset) +
         part.name + extra;
}

}  // namespace

std::string zip(const std::vector<ZipPart>& parts, bool zip64, std::string_view comment) {
  std::string file;
  std::string directory;
  for (const ZipPart& part : parts) {
    const auto* data = reinterpret_cast<const Bytef*>(part.data.data());
    const auto crc =
        static_cast<uint32_t>(::crc32(0, data, static_cast<uInt>(part.data.size()))) ^ part.crc_flip;
    directory += directory_entry(part, crc, file.size(), zip64);
    file += local_header(part, crc) + part.data;
  }
  const uint64_t offset = file.size();
  file += directory;
  if (zip64) {
    const uint64_t end = file.size();
    file += "PK\x06\x06" + le<uint64_t>(44) + le<uint32_t>(0) + le<uint64_t>(0) + le<uint64_t>(parts.size()) +
            le<uint64_t>(parts.size()) + le<uint64_t>(directory.size()) + le(offset);
    file += "PK\x06\x07" + le<uint32_t>(0) + le(end) + le<uint32_t>(1);
  }
  const auto count = static_cast<uint16_t>(zip64 ? UINT16_MAX : parts.size());
  const auto narrow = [&](uint64_t value) { return le(zip64 ? UINT32_MAX : static_cast<uint32_t>(value)); };
  return file + "PK\x05\x06" + le<uint32_t>(0) + le(count) + le(count) + narrow(directory.size()) +
         narrow(offset) + le(static_cast<uint16_t>(comment.size())) + std::string(comment);
}

namespace pickle {

std::string text(std::string_view value) {
  return "X" + le(static_cast<uint32_t>(value.size())) + std::string(value);
}

std::string number(int64_t value) {
  return "\x8a\x08" + le(value);
}

std::string global(std::string_view module, std::string_view name) {
  return "c" + std::string(module) + "\n" + std::string(name) + "\n";
}

std::string tuple(std::initializer_list<std::string> items) {
  std::string program = "(";
  for (const std::string& item : items) program += item;
  return program + "t";
}

std::string tuple(const std::vector<int64_t>& values) {
  std::string program = "(";
  for (const int64_t value : values) program += number(value);
  return program + "t";
}

std::string call(const std::string& callable, const std::string& arguments) {
  return callable + arguments + "R";
}

std::string dict(std::initializer_list<std::pair<std::string, std::string>> entries) {
  std::string program = "}(";
  for (const auto& [key, value] : entries) program += text(key) + value;
  return program + "u";
}

std::string storage(std::string_view type, std::string_view key, int64_t elements) {
  return tuple({text("storage"), global("torch", type), text(key), text("cpu"), number(elements)}) + "Q";
}

std::string tensor(const std::string& storage, int64_t offset, const std::vector<int64_t>& shape,
                   const std::vector<int64_t>& strides) {
  return call(global("torch._utils", "_rebuild_tensor_v2"),
              tuple({storage, number(offset), tuple(shape), tuple(strides), "\x89",
                     call(global("collections", "OrderedDict"), ")")}));
}

std::string program(const std::string& body, int protocol) {
  return "\x80" + std::string(1, static_cast<char>(protocol)) + body + ".";
}

}  // namespace pickle

std::string torch_archive(const std::string& body,
                          std::initializer_list<std::pair<std::string, std::string>> storages) {
  std::vector<ZipPart> parts = {{.name = "m/data.pkl", .data = pickle::program(body)},
                                {.name = "m/byteorder", .data = "little"}};
  for (const auto& [key, data] : storages) parts.push_back({.name = "m/data/" + key, .data = data});
  return zip(parts);
}

std::string torch_legacy(const std::string& body, std::initializer_list<std::string> keys,
                         std::string_view storages) {
  const std::string magic("\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", 12);
  std::string list = "](";
  for (const std::string& key : keys) list += pickle::text(key);
  return pickle::program(magic) + pickle::program(pickle::number(1001)) +
         pickle::program(pickle::dict({{"little_endian", "\x88"}})) + pickle::program(body) +
         pickle::program(list + "e") + std::string(storages);
}

}  // namespace ptq::testing
