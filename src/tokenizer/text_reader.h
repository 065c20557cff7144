// Text from the bytes of a file: what is no text is refused, what is one in another form becomes UTF-8.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/byte_reader.h"

namespace ptq {

// Compressed files may expand without end, and a text is gone through to its end.
inline constexpr uint64_t kMaxTextBytes = uint64_t{1} << 31;

class TextReader {
 public:
  // `path` is for messages. Throws Error if the first bytes are those of no text.
  TextReader(const std::string& path, std::unique_ptr<ByteReader> bytes);

  // Appends the next part, some 64 KiB of whole characters without a byte order mark. False at the end.
  // Throws Error, with the offset in the unpacked file, for a NUL byte and for what is not UTF-8 (or UTF-16
  // with a mark), and for a text of more than kMaxTextBytes.
  bool read(std::string& text);
  // Reads on to the end and keeps nothing.
  void check_rest();

  // What was done to make it UTF-8 text, such as "is gzip data, which was unpacked".
  const std::vector<std::string>& conversions() const { return conversions_; }
  // The name that the gzip header gives, if there is one.
  const std::string& packed_name() const { return packed_name_; }

 private:
  enum class Encoding { kUtf8, kUtf16Little, kUtf16Big };

  std::string take_head();
  void unpack(std::string& head);
  void detect_encoding(std::string& head);
  std::string next_bytes();
  void append_utf8_bytes(std::string_view bytes, bool at_end, std::string& text);
  void append_utf16_bytes(std::string_view bytes, bool at_end, std::string& text);

  std::string path_;
  std::unique_ptr<ByteReader> bytes_;
  Encoding encoding_ = Encoding::kUtf8;
  std::vector<std::string> conversions_;
  std::string packed_name_;
  std::string pending_;  // bytes of a character that is not complete
  uint64_t offset_ = 0;  // of pending_ in the unpacked file
  bool at_end_ = false;
};

}  // namespace ptq
