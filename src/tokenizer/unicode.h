// UTF-8 and the few character classes that tokenizers ask for.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace ptq {

constexpr char32_t kReplacementCharacter = 0xFFFD;
constexpr char32_t kLastCodePoint = 0x10FFFF;

// Bytes of the character that starts with `lead`. REQUIRES: `lead` starts a valid sequence.
inline size_t utf8_length(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

// The code point at `at`. REQUIRES: valid UTF-8, `at` at the start of a character.
inline char32_t utf8_at(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<char32_t>(static_cast<unsigned char>(text[at + i])); };
  const char32_t lead = byte(0);
  if (lead < 0x80) return lead;
  if (lead < 0xE0) return (lead & 0x1F) << 6 | (byte(1) & 0x3F);
  if (lead < 0xF0) return (lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
  return (lead & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F);
}

// Where the character before `at` starts. REQUIRES: valid UTF-8, at > 0.
inline size_t utf8_previous(std::string_view text, size_t at) {
  do --at;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
  return at;
}

// REQUIRES: code is a scalar value (no surrogate, at most kLastCodePoint).
void append_utf8(std::string& text, char32_t code);

// Bytes of the longest prefix that is valid UTF-8.
size_t valid_utf8_prefix(std::string_view text);

// `text` with every maximal invalid part replaced by U+FFFD, as Rust's String::from_utf8_lossy does.
std::string replace_invalid_utf8(std::string_view text);

// The Unicode property White_Space.
bool is_white_space(char32_t code);
// General categories Nd, Nl and No.
bool is_numeric(char32_t code);
// ASCII punctuation, and the general categories of punctuation (P) as the reference library knows them.
bool is_punctuation(char32_t code);
// The lower case of one letter where it is one letter, else the code itself.
char32_t to_lower(char32_t code);
// The title case of one letter where it is one letter, else the code itself.
char32_t to_title(char32_t code);
// Whether normalizing concerns a character that Unicode 9, by whose tables the reference library normalizes,
// has not.
bool is_normalized_since_unicode_10(char32_t code);
// What \w means in Rust's regex crate: Alphabetic, Mark, Decimal_Number, Connector_Punctuation, Join_Control.
bool is_word_character(char32_t code);

// Classes of the split patterns of byte-level tokenizers, by Oniguruma's own Unicode tables, so that a
// hand-written splitter agrees with the regex engine on every code point.
enum class CharClass : uint8_t { kOther, kLetter, kNumber, kSpace };

class CharClasses {
 public:
  static const CharClasses& get();  // built on first use; thread safe

  CharClass of(char32_t code) const { return code < basic_.size() ? basic_[code] : beyond_basic(code); }
  // Of the character at `at`; its length is stored.
  CharClass at(std::string_view text, size_t position, size_t* length) const {
    const auto lead = static_cast<unsigned char>(text[position]);
    if (lead < 0x80) {
      *length = 1;
      return basic_[lead];
    }
    *length = utf8_length(text[position]);
    return of(utf8_at(text, position));
  }

 private:
  CharClasses();
  CharClass beyond_basic(char32_t code) const;

  std::array<CharClass, 0x10000> basic_{};
};

}  // namespace ptq
