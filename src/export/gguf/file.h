// The file format GGUF, versions 2 and 3, without what its keys and names mean (docs/gguf.md of ggml).
//
// Goals: files of any program; hostile ones end in an Error, with memory bounded by the header's bytes.
// Non-goals: version 1, big-endian files, arrays of arrays, which no model needs.
//
// Layout, little-endian: "GGUF", u32 version, u64 tensors, u64 keys; for each key its name, u32 type and
// value; for each tensor its name, u32 dimensions, u64 sizes (the innermost first), u32 type, u64 offset;
// then from the next multiple of the alignment on (general.alignment, or 32) the data, to which offsets
// count. A string is u64 bytes and those; an array u32 type of its elements, u64 elements and those.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "ptq/codec/ggml_types.h"

namespace ptq {

inline constexpr char kGgufMagic[] = "GGUF";
inline constexpr uint32_t kGgufVersion = 3;
inline constexpr uint64_t kGgufAlignment = 32;
inline constexpr const char* kGgufAlignmentKey = "general.alignment";

enum class GgufValueType : uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64,
};

// Integers of any width are int64_t; a u64 past it is a double.
using GgufValue = std::variant<bool, int64_t, double, std::string, std::vector<std::string>,
                               std::vector<int64_t>, std::vector<float>>;

struct GgufTensor {
  std::string name;
  std::vector<int64_t> shape;  // the outermost size first, as everywhere in this program
  GgmlType type = GgmlType::kF32;
  uint64_t offset = 0;  // in the file
  uint64_t bytes = 0;

  int64_t columns() const { return shape.empty() ? 1 : shape.back(); }
};

struct GgufFile {
  std::map<std::string, GgufValue> metadata;
  std::vector<GgufTensor> tensors;  // sorted by name
};

// Whether a file begins as one.
bool looks_like_gguf(std::span<const std::byte> begin);

// Reads the header of a file of `file_bytes` bytes from its beginning, `begin`, which holds all of it. Throws
// Error unless every tensor lies inside the file, none shares bytes with another, and names are unique.
GgufFile parse_gguf(std::span<const std::byte> begin, uint64_t file_bytes, const std::string& where);

}  // namespace ptq
