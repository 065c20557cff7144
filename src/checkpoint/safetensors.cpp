#include "checkpoint/safetensors.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <set>

#include "checkpoint/json_scan.h"
#include "ptq/base/error.h"

namespace ptq {
namespace {

constexpr size_t kPrefixBytes = 8;
constexpr size_t kMaxDepth = 4;
constexpr size_t kMaxMetadata = 100'000;
constexpr char kDamaged[] = "download the file again; it is damaged or cut short";

// Fills a TensorFile. Levels: 1 the header, 2 one tensor (or the metadata), 3 an array of numbers.
class HeaderHandler : public JsonHandler {
 public:
  HeaderHandler(TensorFile& file, uint64_t data_begin, uint64_t data_bytes)
      : JsonHandler(file.path(), kMaxDepth), file_(file), data_begin_(data_begin), data_bytes_(data_bytes) {}

 private:
  enum Field { kDtype, kShape, kOffsets, kFields };

  std::string entry() const { return where() + ": tensor \"" + printable(key_at(1)) + "\""; }
  bool in_metadata() const { return depth() >= 2 && key_at(1) == "__metadata__"; }

  void key_seen() override {
    if (depth() != 2) return;
    if (in_metadata()) {
      if (metadata_.size() >= kMaxMetadata) {
        throw Error(where(), "__metadata__ has more than " + std::to_string(kMaxMetadata) + " entries");
      }
      if (!metadata_.insert(key_at(2)).second) {
        throw Error(where(), "__metadata__ has the key \"" + printable(key_at(2)) + "\" twice");
      }
      return;
    }
    const std::string& key = key_at(2);
    field_ = key == "dtype" ? kDtype : key == "shape" ? kShape : key == "data_offsets" ? kOffsets : kFields;
    if (field_ == kFields) throw Error(entry(), "unknown field \"" + printable(key) + "\"");
    if (seen_[field_]) throw Error(entry(), "the field \"" + key + "\" occurs twice");
    seen_[field_] = true;
  }

  void opened(bool is_array) override {
    const bool fits =
        depth() < 2 ? !is_array : depth() == 2 && is_array && !in_metadata() && field_ != kDtype;
    if (!fits)
      throw Error(depth() < 2 ? where() : entry(), "the header's structure is not that of safetensors");
    if (depth() != 1) return;
    if (key_at(1) == "__metadata__") {
      if (metadata_seen_) throw Error(where(), "__metadata__ occurs twice");
      metadata_seen_ = true;
    }
    tensor_ = {};
    offsets_.clear();
    seen_ = {};
  }

  void value(Json scalar) override {
    if (depth() == 1 && key_at(1) == "__metadata__" && scalar.is_null()) {
      if (metadata_seen_) throw Error(where(), "__metadata__ occurs twice");
      metadata_seen_ = true;  // as the format's own library reads it: an absent map
    } else if (in_metadata()) {
      if (!scalar.is_string()) throw Error(where(), "__metadata__ has a value that is not text");
    } else if (depth() == 2 && field_ == kDtype && scalar.is_string()) {
      const auto& name = scalar.get_ref<const std::string&>();
      const auto dtype = dtype_from_name(name);
      if (!dtype) throw Error(entry(), "the type \"" + printable(name) + "\" is not supported");
      tensor_.info.dtype = *dtype;
    } else if (depth() == 3 && scalar.is_number_unsigned()) {
      number(scalar.get<uint64_t>());
    } else {
      throw Error(depth() == 0 ? where() : entry(), "the header's structure is not that of safetensors");
    }
  }

  void number(uint64_t number) {
    if (number > INT64_MAX) throw Error(entry(), std::to_string(number) + " is too large");
    auto& list = field_ == kShape ? tensor_.info.shape : offsets_;
    const size_t limit = field_ == kShape ? kMaxDims : 2;
    if (list.size() == limit)
      throw Error(entry(), "more than " + std::to_string(limit) + " numbers in a list");
    list.push_back(static_cast<int64_t>(number));
  }

  void closed() override {
    if (depth() != 1 || key_at(1) == "__metadata__") return;
    for (int i = 0; i < kFields; ++i) {
      if (!seen_[static_cast<size_t>(i)]) {
        constexpr std::array<const char*, kFields> kNames = {"dtype", "shape", "data_offsets"};
        throw Error(entry(), std::string("the field \"") + kNames[static_cast<size_t>(i)] + "\" is missing");
      }
    }
    if (offsets_.size() != 2) throw Error(entry(), "data_offsets has not two numbers");
    add_tensor(static_cast<uint64_t>(offsets_[0]), static_cast<uint64_t>(offsets_[1]));
  }

  void add_tensor(uint64_t begin, uint64_t end) {
    if (begin > end || end > data_bytes_) {
      throw Error(entry(),
                  "its data, bytes " + std::to_string(begin) + " to " + std::to_string(end) +
                      ", lie outside the " + std::to_string(data_bytes_) + " bytes of data",
                  kDamaged);
    }
    const auto elements = checked_elements(tensor_.info.shape, dtype_bytes(tensor_.info.dtype));
    if (elements && static_cast<uint64_t>(*elements * dtype_bytes(tensor_.info.dtype)) != end - begin) {
      throw Error(entry(), "its shape and type take " +
                               std::to_string(*elements * dtype_bytes(tensor_.info.dtype)) +
                               " bytes, data_offsets give it " + std::to_string(end - begin));
    }
    tensor_.info.name = key_at(1);
    tensor_.info.shape.shrink_to_fit();
    tensor_.storage = file_.add_storage({"", data_begin_ + begin, end - begin, std::nullopt});
    file_.add_tensor(std::move(tensor_));
  }

  TensorFile& file_;
  uint64_t data_begin_;
  uint64_t data_bytes_;
  StoredTensor tensor_;
  std::vector<int64_t> offsets_;
  std::array<bool, kFields> seen_{};
  Field field_ = kFields;
  bool metadata_seen_ = false;
  std::set<std::string> metadata_;
};

void check_tiling(const TensorFile& file, uint64_t data_begin, uint64_t data_bytes) {
  std::vector<uint32_t> order(file.storages.size());
  std::iota(order.begin(), order.end(), 0U);
  // Empty tensors before others of the same offset, so that they tile too.
  std::ranges::sort(order, {},
                    [&](uint32_t i) { return std::pair(file.storages[i].offset, file.storages[i].bytes); });
  uint64_t expected = data_begin;
  for (const uint32_t i : order) {
    const Storage& storage = file.storages[i];
    if (storage.offset != expected) {
      throw Error(file.path(), "the tensors do not tile the data: one begins at byte " +
                                   std::to_string(storage.offset - data_begin) + " where " +
                                   std::to_string(expected - data_begin) + " is expected");
    }
    expected += storage.bytes;
  }
  if (expected != data_begin + data_bytes) {
    throw Error(file.path(),
                "the tensors end at byte " + std::to_string(expected - data_begin) + " of " +
                    std::to_string(data_bytes) + " bytes of data",
                kDamaged);
  }
}

uint64_t header_length(const ByteSource& source) {
  const Slice prefix = source.slice(0, kPrefixBytes);
  return load_le<uint64_t>(prefix.bytes);
}

}  // namespace

bool looks_like_safetensors(const ByteSource& source) {
  if (source.size() <= kPrefixBytes) return false;
  const Slice brace = source.slice(kPrefixBytes, 1);
  return brace.bytes[0] == std::byte{'{'} && header_length(source) <= kMaxSafetensorsHeader;
}

TensorFile parse_safetensors(const ByteSource& source) {
  TensorFile file(source.path());
  if (source.size() < kPrefixBytes) {
    throw Error(source.path(), "a safetensors file of " + std::to_string(source.size()) + " bytes", kDamaged);
  }
  const uint64_t length = header_length(source);
  if (length > kMaxSafetensorsHeader) {
    throw Error(source.path(), "the header's length is " + std::to_string(length) + "; at most " +
                                   std::to_string(kMaxSafetensorsHeader) + " is allowed");
  }
  if (!source.contains(kPrefixBytes, length)) {
    throw Error(source.path(),
                "the header of " + std::to_string(length) + " bytes is longer than the file of " +
                    std::to_string(source.size()),
                kDamaged);
  }
  const uint64_t data_begin = kPrefixBytes + length;
  const uint64_t data_bytes = source.size() - data_begin;
  const Slice header = source.slice(kPrefixBytes, static_cast<size_t>(length));
  HeaderHandler handler(file, data_begin, data_bytes);
  scan_json(as_text(header.bytes), handler, source.path());
  source.drop(0, static_cast<size_t>(data_begin));
  file.finish();
  check_tiling(file, data_begin, data_bytes);
  return file;
}

}  // namespace ptq
