#include "ptq/tokenizer/token_file.h"

#include <algorithm>
#include <memory>
#include <span>

#include "ptq/base/error.h"
#include "ptq/base/file.h"
#include "ptq/tokenizer/text_file.h"
#include "tokenizer/npy_header.h"

namespace ptq {
namespace {

constexpr size_t kChunkBytes = size_t{1} << 20;

// One integer of `type` at `bytes`. False if it is no id: negative or beyond int64.
bool decode_id(const unsigned char* bytes, const IntegerType& type, int64_t* id) {
  uint64_t value = 0;
  for (size_t i = 0; i < type.bytes; ++i)
    value = value << 8 | bytes[type.big_endian ? i : type.bytes - 1 - i];
  *id = static_cast<int64_t>(value);
  const uint64_t top_bit = uint64_t{1} << (8 * type.bytes - 1);
  // An int64 must not be negative either, so the top bit is wrong for 64 bits of any type.
  return !((type.is_signed || type.bytes == 8) && (value & top_bit) != 0);
}

std::vector<int64_t> read_ids(const MappedFile& file, size_t offset, const IntegerType& type, size_t count) {
  std::vector<int64_t> ids;
  ids.reserve(count);
  std::vector<std::byte> chunk;
  while (ids.size() < count) {
    chunk.resize(std::min(kChunkBytes, (count - ids.size()) * type.bytes));
    file.read_into(offset + ids.size() * type.bytes, chunk);
    const auto* bytes = reinterpret_cast<const unsigned char*>(chunk.data());
    for (size_t at = 0; at < chunk.size(); at += type.bytes) {
      int64_t id = 0;
      if (!decode_id(bytes + at, type, &id)) {
        throw Error(file.path(), "entry " + std::to_string(ids.size()) +
                                     " is negative or does not fit 63 bits: not a token id");
      }
      ids.push_back(id);
    }
  }
  return ids;
}

std::vector<int64_t> read_npy(const MappedFile& file, const std::string& dtype) {
  const NpyHeader header = read_npy_header(file);
  if (!dtype.empty()) {
    const IntegerType wanted = integer_type(dtype);
    if (wanted.bytes != header.type.bytes || wanted.is_signed != header.type.is_signed) {
      throw usage_error(file.path(), "the file does not hold " + dtype + " integers", "leave the type out");
    }
  }
  const size_t data_bytes = file.size() - header.data_offset;
  if (header.count != data_bytes / header.type.bytes || data_bytes % header.type.bytes != 0) {
    throw Error(file.path(), "the header announces " + std::to_string(header.count) + " integers of " +
                                 std::to_string(header.type.bytes) + " bytes, but " +
                                 std::to_string(data_bytes) + " bytes follow");
  }
  return read_ids(file, header.data_offset, header.type, header.count);
}

}  // namespace

std::vector<int64_t> read_token_file(const std::string& path, const std::string& dtype) {
  const bool is_npy = has_suffix(path, ".npy");
  if (!is_npy && dtype.empty()) {
    throw usage_error(path, "the type of the integers in this file is not known", "--token-dtype u16");
  }
  const auto file = MappedFile::open(path, /*use_mmap=*/false);
  if (is_npy) return read_npy(*file, dtype);
  const IntegerType type = integer_type(dtype);
  if (file->size() % type.bytes != 0) {
    throw Error(path, std::to_string(file->size()) + " bytes do not divide into " + dtype + " integers of " +
                          std::to_string(type.bytes));
  }
  return read_ids(*file, 0, type, file->size() / type.bytes);
}

}  // namespace ptq
