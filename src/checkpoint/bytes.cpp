#include "checkpoint/bytes.h"

#include <cstring>

#include "ptq/base/error.h"

namespace ptq {

std::string printable(std::string_view name) {
  constexpr size_t kLongest = 200;
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const char c : name.substr(0, kLongest)) {
    if (c >= ' ' && c <= '~') {
      text += c;
      continue;
    }
    const auto code = static_cast<unsigned char>(c);
    text += "\\x";
    text += kDigits[code >> 4];
    text += kDigits[code & 15];
  }
  return name.size() > kLongest ? text + "..." : text;
}

ByteSource::ByteSource(std::shared_ptr<const MappedFile> file)
    : file_(std::move(file)), path_(file_->path()), size_(file_->size()) {
  if (file_->mapped()) memory_ = file_->bytes();
}

ByteSource::ByteSource(std::span<const std::byte> memory, std::string path)
    : memory_(memory), path_(std::move(path)), size_(memory.size()) {}

Slice ByteSource::slice(size_t offset, size_t length) const {
  if (!contains(offset, length)) {
    throw Error(path_, std::to_string(length) + " bytes from byte " + std::to_string(offset) +
                           " lie outside the file of " + std::to_string(size_));
  }
  if (in_memory()) return {memory_.subspan(offset, length), file_};
  auto copy = std::make_shared_for_overwrite<std::byte[]>(length);
  const std::span<std::byte> bytes(copy.get(), length);
  file_->read_into(offset, bytes);
  return {bytes, std::move(copy)};
}

void ByteSource::read(size_t offset, std::span<std::byte> out) const {
  if (!in_memory()) return file_->read_into(offset, out);
  const Slice part = slice(offset, out.size());
  if (!out.empty()) std::memcpy(out.data(), part.bytes.data(), out.size());
}

void ByteSource::drop(size_t offset, size_t length) const {
  if (file_ != nullptr) file_->drop(offset, length);
}

std::span<const std::byte> ByteCursor::take(uint64_t length) {
  if (length > remaining()) {
    throw Error(where_,
                std::to_string(length) + " bytes are wanted at byte " + std::to_string(position_) + ", " +
                    std::to_string(remaining()) + " are left",
                "download the file again; it is damaged or cut short");
  }
  const auto part = bytes_.subspan(position_, static_cast<size_t>(length));
  position_ += part.size();
  return part;
}

std::string_view ByteCursor::line() {
  const std::string_view rest = as_text(bytes_.subspan(position_));
  const size_t end = rest.find('\n');
  if (end == std::string_view::npos) {
    throw Error(where_, "the line that begins at byte " + std::to_string(position_) + " does not end");
  }
  position_ += end + 1;
  return rest.substr(0, end);
}

}  // namespace ptq
