#include "tokenizer/text_reader.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "ptq/base/error.h"
#include "ptq/base/interrupt.h"
#include "tokenizer/file_magic.h"
#include "tokenizer/unicode.h"

namespace ptq {
namespace {

constexpr size_t kHeadBytes = 4096;
constexpr size_t kPartBytes = size_t{1} << 16;
constexpr std::string_view kUtf8Mark = "\xEF\xBB\xBF";
constexpr std::string_view kLittleMark = "\xFF\xFE";
constexpr std::string_view kBigMark = "\xFE\xFF";

// The name in a gzip header (RFC 1952), "" if there is none.
std::string name_in_gzip_header(std::string_view head) {
  constexpr size_t kFixedBytes = 10;
  constexpr unsigned char kExtra = 4, kName = 8;
  if (head.size() < kFixedBytes) return "";
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(head[i]); };
  size_t at = kFixedBytes;
  if ((byte(3) & kName) == 0) return "";
  if ((byte(3) & kExtra) != 0) {
    if (head.size() < at + 2) return "";
    at += 2 + byte(at) + size_t{256} * byte(at + 1);
  }
  const size_t end = head.find('\0', at);
  return end == std::string_view::npos ? "" : std::string(head.substr(at, end - at));
}

// UTF-16 of mostly Latin text has a zero in every other byte.
std::string_view utf16_without_mark(std::string_view head) {
  size_t zeros[2] = {0, 0};
  for (size_t i = 0; i < head.size(); ++i) zeros[i % 2] += head[i] == '\0' ? 1 : 0;
  const size_t half = head.size() / 2;
  if (half >= 2 && zeros[1] > half * 7 / 10 && zeros[0] <= half / 10) return "UTF-16LE";
  if (half >= 2 && zeros[0] > half * 7 / 10 && zeros[1] <= half / 10) return "UTF-16BE";
  return "";
}

// Bytes that no encoding of a text has, other than NUL.
bool has_controls(std::string_view text) {
  const auto is_control = [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 0x20 && c != '\t' && c != '\n' && c != '\r' && c != '\f' && c != '\v' && c != '\b' &&
           byte != 0x1B;
  };
  return std::any_of(text.begin(), text.end(), is_control);
}

[[noreturn]] void throw_no_text(const std::string& path, const FileKind& kind) {
  throw Error(path, "is no text: it seems to be " + std::string(kind.what), std::string(kind.hint));
}

[[noreturn]] void throw_nul(const std::string& path, uint64_t offset) {
  throw Error(path, "is no text: there is a NUL byte at offset " + std::to_string(offset),
              "a text in UTF-8, or token ids as .npy, .safetensors or .bin");
}

[[noreturn]] void throw_invalid(const std::string& path, uint64_t offset, std::string_view rest,
                                bool binary) {
  char hex[8];
  std::snprintf(hex, sizeof(hex), "0x%02X", static_cast<unsigned>(static_cast<unsigned char>(rest[0])));
  const std::string what =
      std::string("the byte ") + hex + " at offset " + std::to_string(offset) + " is not UTF-8";
  if (binary) {
    throw Error(path, what + ", and there are control characters around it: it seems to be binary data",
                "a text in UTF-8, or token ids as .npy, .safetensors or .bin");
  }
  throw Error(path, what, "if the text is Latin-1: iconv -f WINDOWS-1252 -t UTF-8");
}

}  // namespace

TextReader::TextReader(const std::string& path, std::unique_ptr<ByteReader> bytes)
    : path_(path), bytes_(std::move(bytes)) {
  std::string head = take_head();
  unpack(head);
  detect_encoding(head);
  bytes_ = put_back(std::move(head), std::move(bytes_));
}

std::string TextReader::take_head() {
  std::string head(kHeadBytes, '\0');
  head.resize(bytes_->read(head));
  return head;
}

void TextReader::unpack(std::string& head) {
  if (!head.starts_with(kGzipMagic)) return;
  packed_name_ = name_in_gzip_header(head);
  bytes_ = gunzip(put_back(std::move(head), std::move(bytes_)), path_);
  head = take_head();
  conversions_.emplace_back("is gzip data, which was unpacked");
}

void TextReader::detect_encoding(std::string& head) {
  if (const FileKind kind = kind_by_magic(head); !kind.what.empty()) throw_no_text(path_, kind);
  const auto skip_mark = [&](std::string_view mark) {
    if (!head.starts_with(mark)) return false;
    head.erase(0, mark.size());
    offset_ = mark.size();
    return true;
  };
  if (skip_mark(kUtf8Mark)) return;
  if (skip_mark(kLittleMark)) encoding_ = Encoding::kUtf16Little;
  if (encoding_ == Encoding::kUtf8 && skip_mark(kBigMark)) encoding_ = Encoding::kUtf16Big;
  if (encoding_ != Encoding::kUtf8) {
    conversions_.emplace_back("is UTF-16 text, which was converted to UTF-8");
    return;
  }
  if (const std::string_view name = utf16_without_mark(head); !name.empty()) {
    throw Error(path_, "is no UTF-8 text: it seems to be " + std::string(name) + " without a byte order mark",
                "convert it: iconv -f " + std::string(name) + " -t UTF-8");
  }
}

// The bytes of an incomplete character, and the next ones.
std::string TextReader::next_bytes() {
  throw_if_interrupted();
  std::string bytes = std::move(pending_);
  pending_.clear();
  const size_t old_size = bytes.size();
  bytes.resize(old_size + kPartBytes);
  const size_t got = bytes_->read(std::span(bytes).subspan(old_size));
  bytes.resize(old_size + got);
  at_end_ = got < kPartBytes;
  if (offset_ + bytes.size() > kMaxTextBytes) {
    throw Error(path_,
                "has more than " + std::to_string(kMaxTextBytes) + " bytes of text, the most that is read",
                "a part of it");
  }
  return bytes;
}

bool TextReader::read(std::string& text) {
  if (at_end_) return false;
  const std::string bytes = next_bytes();
  if (encoding_ == Encoding::kUtf8) {
    append_utf8_bytes(bytes, at_end_, text);
  } else {
    append_utf16_bytes(bytes, at_end_, text);
  }
  offset_ += bytes.size() - pending_.size();
  return !bytes.empty();
}

void TextReader::check_rest() {
  std::string part;
  while (read(part)) part.clear();
}

void TextReader::append_utf8_bytes(std::string_view bytes, bool at_end, std::string& text) {
  const size_t valid = valid_utf8_prefix(bytes);
  const size_t nul = bytes.substr(0, valid).find('\0');
  if (nul != std::string_view::npos) throw_nul(path_, offset_ + nul);
  const std::string_view rest = bytes.substr(valid);
  // A character may go on in the next part; what was held back already has got all it needs.
  constexpr size_t kLongestCharacter = 4;
  if (!rest.empty() && (at_end || rest.size() >= kLongestCharacter)) {
    const size_t around = std::min<size_t>(valid, 1024);
    throw_invalid(path_, offset_ + valid, rest, has_controls(bytes.substr(valid - around, around + 1024)));
  }
  text.append(bytes.substr(0, valid));
  pending_ = rest;
}

void TextReader::append_utf16_bytes(std::string_view bytes, bool at_end, std::string& text) {
  const bool little = encoding_ == Encoding::kUtf16Little;
  const auto unit = [&](size_t at) {
    const auto first = static_cast<unsigned char>(bytes[at]),
               second = static_cast<unsigned char>(bytes[at + 1]);
    return static_cast<char32_t>(little ? second << 8 | first : first << 8 | second);
  };
  size_t at = 0;
  while (at + 2 <= bytes.size()) {
    char32_t code = unit(at);
    size_t used = 2;
    const bool high = code >= 0xD800 && code < 0xDC00, low = code >= 0xDC00 && code < 0xE000;
    if (high && at + 4 > bytes.size() && !at_end) break;
    const char32_t next = high && at + 4 <= bytes.size() ? unit(at + 2) : 0;
    if (low || (high && (next < 0xDC00 || next >= 0xE000))) {
      throw Error(path_, "half a UTF-16 surrogate pair at offset " + std::to_string(offset_ + at));
    }
    if (high) {
      code = 0x10000 + ((code - 0xD800) << 10) + (next - 0xDC00);
      used = 4;
    }
    if (code == 0) throw_nul(path_, offset_ + at);
    append_utf8(text, code);
    at += used;
  }
  if (at_end && at < bytes.size()) {
    throw Error(path_, "is UTF-16 text of an odd number of bytes: it is not complete");
  }
  pending_ = bytes.substr(at);
}

}  // namespace ptq
