#include "export/gguf/writer.h"

#include <cstring>

namespace ptq {
namespace {

template <typename T>
void append(std::string& bytes, T value) {
  char raw[sizeof(T)];
  std::memcpy(raw, &value, sizeof(T));
  bytes.append(raw, sizeof(T));
}

void append_text(std::string& bytes, std::string_view text) {
  append(bytes, static_cast<uint64_t>(text.size()));
  bytes += text;
}

int64_t data_bytes(const GgufTensorHeader& tensor) {
  const GgmlTypeEntry& type = ggml_type(tensor.type);
  int64_t values = 1;
  for (const int64_t size : tensor.shape) values *= size;
  return values / type.block * type.block_bytes;
}

int64_t padding(int64_t bytes) {
  constexpr auto kAlign = static_cast<int64_t>(kGgufAlignment);
  return (kAlign - bytes % kAlign) % kAlign;
}

std::string list_of(const std::vector<GgufTensorHeader>& tensors) {
  std::string bytes;
  int64_t offset = 0;
  for (const GgufTensorHeader& tensor : tensors) {
    append_text(bytes, tensor.name);
    append(bytes, static_cast<uint32_t>(tensor.shape.size()));
    for (size_t i = tensor.shape.size(); i-- > 0;) append(bytes, static_cast<uint64_t>(tensor.shape[i]));
    append(bytes, static_cast<uint32_t>(tensor.type));
    append(bytes, static_cast<uint64_t>(offset));
    const int64_t size = data_bytes(tensor);
    offset += size + padding(size);
  }
  return bytes;
}

}  // namespace

void GgufMetadata::begin(std::string_view key, GgufValueType type) {
  append_text(bytes_, key);
  append(bytes_, static_cast<uint32_t>(type));
  ++count_;
}

void GgufMetadata::add(std::string_view key, bool value) {
  begin(key, GgufValueType::kBool);
  append(bytes_, static_cast<uint8_t>(value ? 1 : 0));
}

void GgufMetadata::add(std::string_view key, uint32_t value) {
  begin(key, GgufValueType::kU32);
  append(bytes_, value);
}

void GgufMetadata::add(std::string_view key, float value) {
  begin(key, GgufValueType::kF32);
  append(bytes_, value);
}

void GgufMetadata::add(std::string_view key, std::string_view value) {
  begin(key, GgufValueType::kString);
  append_text(bytes_, value);
}

template <typename T>
void GgufMetadata::add_array(std::string_view key, GgufValueType type, const std::vector<T>& values) {
  begin(key, GgufValueType::kArray);
  append(bytes_, static_cast<uint32_t>(type));
  append(bytes_, static_cast<uint64_t>(values.size()));
  for (const T& value : values) {
    if constexpr (std::is_same_v<T, std::string>)
      append_text(bytes_, value);
    else
      append(bytes_, value);
  }
}

void GgufMetadata::add(std::string_view key, const std::vector<std::string>& values) {
  add_array(key, GgufValueType::kString, values);
}
void GgufMetadata::add(std::string_view key, const std::vector<int32_t>& values) {
  add_array(key, GgufValueType::kI32, values);
}
void GgufMetadata::add(std::string_view key, const std::vector<float>& values) {
  add_array(key, GgufValueType::kF32, values);
}

void GgufMetadata::add(const GgufMetadata& more) {
  bytes_ += more.bytes_;
  count_ += more.count_;
}

GgufWriter::GgufWriter(const std::string& path, const GgufMetadata& metadata,
                       std::vector<GgufTensorHeader> tensors)
    : output_(path), tensors_(std::move(tensors)) {
  std::string header(kGgufMagic);
  append(header, kGgufVersion);
  append(header, static_cast<uint64_t>(tensors_.size()));
  append(header, metadata.count_);
  header += metadata.bytes_ + list_of(tensors_);
  header.append(static_cast<size_t>(padding(static_cast<int64_t>(header.size()))), '\0');
  output_.file().write(header);
}

void GgufWriter::add(const Tensor& bytes) {
  const Tensor data = bytes.contiguous();
  const int64_t whole = next_ < tensors_.size() ? data_bytes(tensors_[next_]) : 0;
  added_ += static_cast<int64_t>(data.nbytes());
  TORCH_CHECK(added_ <= whole, "a tensor of ", whole, " bytes gets ", added_);
  output_.file().write({static_cast<const std::byte*>(data.const_data_ptr()), data.nbytes()});
  if (added_ < whole) return;
  output_.file().write(std::string(static_cast<size_t>(padding(whole)), '\0'));
  ++next_;
  added_ = 0;
}

void GgufWriter::commit() {
  TORCH_CHECK(next_ == tensors_.size(), "tensors are missing");
  output_.commit();
}

}  // namespace ptq
