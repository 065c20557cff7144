#include "export/gguf/file.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <optional>

#include "ptq/base/error.h"

namespace ptq {
namespace {

// More than any model has: they bound what a small file can make us allocate, beside the bytes it has.
constexpr uint64_t kMostKeys = 100'000, kMostTensors = 250'000, kMostNameBytes = 1024, kMostDims = 4;
constexpr uint64_t kMostElements = 20'000'000;  // of all arrays
constexpr uint64_t kMostAlignment = uint64_t{1} << 20;
constexpr uint64_t kLeastKeyBytes = 8 + 4 + 1, kLeastTensorBytes = 8 + 4 + 4 + 8;
constexpr char kDamaged[] = "download the file again; it is damaged or cut short";

// A name from a file, fit for a message.
std::string printable(std::string_view name) {
  std::string text;
  for (const char c : name.substr(0, 80)) text += c >= ' ' && c <= '~' ? c : '?';
  return "\"" + text + (name.size() > 80 ? "..." : "") + "\"";
}

class Reader {
 public:
  Reader(std::span<const std::byte> bytes, const std::string& where) : bytes_(bytes), where_(where) {}

  uint64_t position() const { return position_; }
  uint64_t remaining() const { return bytes_.size() - position_; }
  [[noreturn]] void fail(const std::string& what, const char* hint = "") const {
    throw Error(where_, what, hint);
  }

  template <typename T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }

  std::string text(uint64_t most) {
    const auto length = number<uint64_t>();
    if (length > most)
      fail("a string of " + std::to_string(length) + " bytes at byte " + std::to_string(position_) +
           "; at most " + std::to_string(most) + " are allowed");
    const std::span<const std::byte> from = take(length);
    return {reinterpret_cast<const char*>(from.data()), from.size()};
  }

  // A count of things that take at least `least_bytes` each.
  uint64_t count(const char* what, uint64_t most, uint64_t least_bytes) {
    const auto n = number<uint64_t>();
    if (n > most || n > remaining() / least_bytes)
      fail("says that it has " + std::to_string(n) + " " + what + ", with " + std::to_string(remaining()) +
               " bytes left",
           kDamaged);
    return n;
  }

 private:
  std::span<const std::byte> take(uint64_t length) {
    if (length > remaining())
      fail("ends at byte " + std::to_string(bytes_.size()) + ", " + std::to_string(length - remaining()) +
               " bytes too early for its header",
           kDamaged);
    const auto part = bytes_.subspan(position_, length);
    position_ += length;
    return part;
  }

  std::span<const std::byte> bytes_;
  const std::string& where_;
  uint64_t position_ = 0;
};

uint64_t value_bytes(GgufValueType type) {
  switch (type) {
    case GgufValueType::kU8:
    case GgufValueType::kI8:
    case GgufValueType::kBool:
      return 1;
    case GgufValueType::kU16:
    case GgufValueType::kI16:
      return 2;
    case GgufValueType::kU32:
    case GgufValueType::kI32:
    case GgufValueType::kF32:
      return 4;
    default:
      return 8;
  }
}

bool is_integer(GgufValueType type) {
  return type <= GgufValueType::kI32 || type == GgufValueType::kU64 || type == GgufValueType::kI64;
}

int64_t read_integer(Reader& in, GgufValueType type) {
  switch (type) {
    case GgufValueType::kU8:
      return in.number<uint8_t>();
    case GgufValueType::kI8:
      return in.number<int8_t>();
    case GgufValueType::kU16:
      return in.number<uint16_t>();
    case GgufValueType::kI16:
      return in.number<int16_t>();
    case GgufValueType::kU32:
      return in.number<uint32_t>();
    case GgufValueType::kI32:
      return in.number<int32_t>();
    default:
      return in.number<int64_t>();
  }
}

bool read_bool(Reader& in) {
  const auto byte = in.number<uint8_t>();
  if (byte > 1) in.fail("a truth value is " + std::to_string(byte));
  return byte == 1;
}

class Values {
 public:
  GgufValue read(Reader& in) {
    const GgufValueType type = read_type(in);
    if (type == GgufValueType::kArray) return read_array(in);
    if (type == GgufValueType::kString) return in.text(in.remaining());
    if (type == GgufValueType::kBool) return read_bool(in);
    if (type == GgufValueType::kF32) return static_cast<double>(in.number<float>());
    if (type == GgufValueType::kF64) return in.number<double>();
    if (type == GgufValueType::kU64) {
      const auto value = in.number<uint64_t>();
      if (value > static_cast<uint64_t>(INT64_MAX)) return static_cast<double>(value);
      return static_cast<int64_t>(value);
    }
    return read_integer(in, type);
  }

 private:
  static GgufValueType read_type(Reader& in) {
    const auto type = in.number<uint32_t>();
    if (type > static_cast<uint32_t>(GgufValueType::kF64))
      in.fail("the value type " + std::to_string(type) + " is not known");
    return static_cast<GgufValueType>(type);
  }

  GgufValue read_array(Reader& in) {
    const GgufValueType type = read_type(in);
    if (type == GgufValueType::kArray) in.fail("an array of arrays, which no model needs");
    const uint64_t count = in.count("elements of an array", kMostElements - elements_, value_bytes(type));
    elements_ += count;
    if (type == GgufValueType::kString) {
      std::vector<std::string> all;
      for (uint64_t i = 0; i < count; ++i) all.push_back(in.text(in.remaining()));
      return all;
    }
    if (type == GgufValueType::kF32 || type == GgufValueType::kF64) {
      std::vector<float> all;
      for (uint64_t i = 0; i < count; ++i)
        all.push_back(type == GgufValueType::kF32 ? in.number<float>()
                                                  : static_cast<float>(in.number<double>()));
      return all;
    }
    std::vector<int64_t> all;
    for (uint64_t i = 0; i < count; ++i)
      all.push_back(is_integer(type) ? read_integer(in, type) : static_cast<int64_t>(read_bool(in)));
    return all;
  }

  uint64_t elements_ = 0;
};

// a * b, unless it is past int64_t.
std::optional<int64_t> product(int64_t a, int64_t b) {
  if (b != 0 && a > std::numeric_limits<int64_t>::max() / b) return {};
  return a * b;
}

void read_shape(Reader& in, GgufTensor& tensor) {
  const auto dims = in.number<uint32_t>();
  if (dims > kMostDims)
    in.fail("the tensor " + printable(tensor.name) + " has " + std::to_string(dims) + " dimensions");
  for (uint32_t i = 0; i < dims; ++i) {
    const auto size = in.number<uint64_t>();
    if (size == 0 || size > static_cast<uint64_t>(INT64_MAX))
      in.fail("the tensor " + printable(tensor.name) + " has a dimension of " + std::to_string(size));
    tensor.shape.insert(tensor.shape.begin(), static_cast<int64_t>(size));
  }
}

// The offset is that within the data.
GgufTensor read_tensor(Reader& in) {
  GgufTensor tensor;
  tensor.name = in.text(kMostNameBytes);
  read_shape(in, tensor);
  const auto number = in.number<uint32_t>();
  const GgmlTypeEntry* type = find_ggml_type(number);
  if (type == nullptr) {
    std::string known;
    for (const GgmlTypeEntry& entry : ggml_types())
      known += (known.empty() ? "" : ", ") + std::string(entry.name);
    throw Error(printable(tensor.name),
                "is stored as ggml's type " + std::to_string(number) + ", which is not read",
                "a file in one of " + known);
  }
  tensor.type = type->type;
  if (tensor.columns() % type->block != 0)
    in.fail("the tensor " + printable(tensor.name) + " has rows of " + std::to_string(tensor.columns()) +
            " values, and blocks of " + type->name + " have " + std::to_string(type->block));
  std::optional<int64_t> values = 1;
  for (const int64_t size : tensor.shape) values = values ? product(*values, size) : values;
  const std::optional<int64_t> bytes = values ? product(*values / type->block, type->block_bytes) : values;
  if (!bytes) in.fail("the tensor " + printable(tensor.name) + " has more values than a file can hold");
  tensor.bytes = static_cast<uint64_t>(*bytes);
  tensor.offset = in.number<uint64_t>();
  return tensor;
}

uint64_t alignment_of(const GgufFile& file, const std::string& where) {
  const auto found = file.metadata.find(kGgufAlignmentKey);
  if (found == file.metadata.end()) return kGgufAlignment;
  const int64_t* value = std::get_if<int64_t>(&found->second);
  const uint64_t alignment = value != nullptr && *value > 0 ? static_cast<uint64_t>(*value) : 0;
  if (!std::has_single_bit(alignment) || alignment > kMostAlignment)
    throw Error(where + ": " + kGgufAlignmentKey,
                "is not a power of two up to " + std::to_string(kMostAlignment));
  return alignment;
}

// Turns offsets in the data into offsets in the file.
void place_tensors(GgufFile& file, uint64_t data, uint64_t file_bytes, uint64_t alignment,
                   const std::string& where) {
  const uint64_t size = data <= file_bytes ? file_bytes - data : 0;
  for (GgufTensor& tensor : file.tensors) {
    if (tensor.offset % alignment != 0)
      throw Error(where, "the tensor " + printable(tensor.name) + " begins at byte " +
                             std::to_string(tensor.offset) + " of the data, which is no multiple of " +
                             std::to_string(alignment));
    if (tensor.offset > size || tensor.bytes > size - tensor.offset)
      throw Error(where,
                  "the tensor " + printable(tensor.name) + ", " + std::to_string(tensor.bytes) +
                      " bytes from byte " + std::to_string(tensor.offset) + ", lies outside the " +
                      std::to_string(size) + " bytes of data",
                  kDamaged);
    tensor.offset += data;
  }
  std::vector<const GgufTensor*> order;
  for (const GgufTensor& tensor : file.tensors) order.push_back(&tensor);
  std::ranges::sort(order, {}, [](const GgufTensor* tensor) { return tensor->offset; });
  for (size_t i = 1; i < order.size(); ++i) {
    if (order[i - 1]->offset + order[i - 1]->bytes > order[i]->offset)
      throw Error(where, "the tensors " + printable(order[i - 1]->name) + " and " +
                             printable(order[i]->name) + " share bytes");
  }
}

void read_version(Reader& in) {
  in.number<uint32_t>();  // the magic
  const auto version = in.number<uint32_t>();
  if (version == 2 || version == kGgufVersion) return;
  if (__builtin_bswap32(version) <= kGgufVersion) in.fail("is a big-endian GGUF file", "a little-endian one");
  in.fail("is GGUF of version " + std::to_string(version) + "; 2 and 3 are read",
          "llama.cpp's converter makes one of version 3");
}

}  // namespace

bool looks_like_gguf(std::span<const std::byte> begin) {
  return begin.size() >= 4 && std::memcmp(begin.data(), kGgufMagic, 4) == 0;
}

GgufFile parse_gguf(std::span<const std::byte> begin, uint64_t file_bytes, const std::string& where) {
  if (!looks_like_gguf(begin)) throw Error(where, "is no GGUF file");
  Reader in(begin, where);
  read_version(in);
  GgufFile file;
  const uint64_t tensors = in.count("tensors", kMostTensors, kLeastTensorBytes);
  const uint64_t keys = in.count("keys", kMostKeys, kLeastKeyBytes);
  Values values;
  for (uint64_t i = 0; i < keys; ++i) {
    const std::string key = in.text(kMostNameBytes);
    if (!file.metadata.emplace(key, values.read(in)).second)
      in.fail("has the key " + printable(key) + " twice");
  }
  for (uint64_t i = 0; i < tensors; ++i) file.tensors.push_back(read_tensor(in));
  const uint64_t alignment = alignment_of(file, where);
  const uint64_t data = (in.position() + alignment - 1) / alignment * alignment;
  place_tensors(file, data, file_bytes, alignment, where);
  std::ranges::sort(file.tensors, {}, &GgufTensor::name);
  const auto twice = std::ranges::adjacent_find(file.tensors, {}, &GgufTensor::name);
  if (twice != file.tensors.end()) in.fail("has the tensor " + printable(twice->name) + " twice");
  return file;
}

}  // namespace ptq
