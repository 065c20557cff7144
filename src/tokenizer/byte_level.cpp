#include "tokenizer/byte_level.h"

#include <array>

#include "tokenizer/unicode.h"

namespace ptq {
namespace {

constexpr bool stands_for_itself(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

struct ByteAlphabet {
  static constexpr int kNone = -1;
  std::array<std::string, 256> character;
  std::array<int, 0x100 + 68> byte;

  ByteAlphabet() {
    byte.fill(kNone);
    char32_t next = 0x100;
    for (int value = 0; value < 256; ++value) {
      const char32_t code = stands_for_itself(value) ? static_cast<char32_t>(value) : next++;
      append_utf8(character[static_cast<size_t>(value)], code);
      byte[code] = value;
    }
  }
};

const ByteAlphabet& alphabet() {
  static const ByteAlphabet value;
  return value;
}

}  // namespace

const std::string& byte_character(unsigned char byte) {
  return alphabet().character[byte];
}

std::optional<unsigned char> byte_of_character(char32_t code) {
  const auto& table = alphabet().byte;
  if (code >= table.size() || table[code] == ByteAlphabet::kNone) return std::nullopt;
  return static_cast<unsigned char>(table[code]);
}

std::string to_byte_characters(std::string_view text) {
  std::string characters;
  characters.reserve(text.size() * 2);
  for (const char byte : text) characters += byte_character(static_cast<unsigned char>(byte));
  return characters;
}

void append_from_byte_characters(std::string_view token, std::string& bytes) {
  const size_t size_before = bytes.size();
  for (size_t at = 0; at < token.size(); at += utf8_length(token[at])) {
    const auto byte = byte_of_character(utf8_at(token, at));
    if (!byte) {
      bytes.resize(size_before);
      bytes.append(token);
      return;
    }
    bytes.push_back(static_cast<char>(*byte));
  }
}

}  // namespace ptq
