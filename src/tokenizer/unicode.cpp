#include "tokenizer/unicode.h"

#include <oniguruma.h>

#include <cassert>
#include <cstring>

#include "tokenizer/pattern.h"

namespace ptq {
namespace {

// Length of the valid character at the front of `text`, or 0; `invalid` gets the bytes that one U+FFFD stands
// for if there is none: the longest prefix that could have been continued, at least one byte.
size_t leading_character(std::string_view text, size_t* invalid) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  *invalid = 1;
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  const size_t length = utf8_length(text[0]);
  // The second byte is what rules out surrogates, overlong forms and values past U+10FFFF.
  const unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (size_t i = 1; i < length; ++i) {
    if (i >= text.size() || byte(i) < (i == 1 ? low : 0x80) || byte(i) > (i == 1 ? high : 0xBF)) {
      *invalid = i;
      return 0;
    }
  }
  return length;
}

// Property or class of Oniguruma's tables, as [first, last] pairs.
struct CodeRanges {
  const OnigCodePoint* pairs;
  size_t count;
};

int property(const char* name) {
  const auto* begin = reinterpret_cast<const OnigUChar*>(name);
  const int type = ONIG_ENCODING_UTF8->property_name_to_ctype(
      ONIG_ENCODING_UTF8, const_cast<OnigUChar*>(begin), const_cast<OnigUChar*>(begin) + std::strlen(name));
  assert(type >= 0 && "Oniguruma knows the general categories");
  return type;
}

int letter_type() {
  static const int type = property("L");
  return type;
}

int number_type() {
  static const int type = property("N");
  return type;
}

bool is_of_type(char32_t code, int type) {
  start_oniguruma();
  return ONIG_ENCODING_UTF8->is_code_ctype(static_cast<OnigCodePoint>(code), static_cast<OnigCtype>(type)) !=
         0;
}

CodeRanges ranges_of(int type) {
  const OnigCodePoint* table = nullptr;
  OnigCodePoint single_byte_end = 0;
  const int status =
      ONIG_ENCODING_UTF8->get_ctype_code_range(static_cast<OnigCtype>(type), &single_byte_end, &table);
  assert(status == ONIG_NORMAL && table != nullptr);
  (void)status;
  return {table + 1, static_cast<size_t>(table[0])};
}

}  // namespace

void append_utf8(std::string& text, char32_t code) {
  const auto push = [&](char32_t byte) {
    text.push_back(static_cast<char>(static_cast<unsigned char>(byte)));
  };
  if (code < 0x80) {
    push(code);
  } else if (code < 0x800) {
    push(0xC0 | code >> 6);
    push(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    push(0xE0 | code >> 12);
    push(0x80 | (code >> 6 & 0x3F));
    push(0x80 | (code & 0x3F));
  } else {
    push(0xF0 | code >> 18);
    push(0x80 | (code >> 12 & 0x3F));
    push(0x80 | (code >> 6 & 0x3F));
    push(0x80 | (code & 0x3F));
  }
}

size_t valid_utf8_prefix(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    // Eight ASCII bytes at a time: most text is.
    uint64_t word = 0;
    while (at + sizeof word <= text.size()) {
      std::memcpy(&word, text.data() + at, sizeof word);
      if ((word & 0x8080808080808080u) != 0) break;
      at += sizeof word;
    }
    if (at == text.size()) break;
    size_t invalid = 0;
    const size_t length = leading_character(text.substr(at), &invalid);
    if (length == 0) return at;
    at += length;
  }
  return at;
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string valid;
  valid.reserve(text.size());
  while (!text.empty()) {
    const size_t prefix = valid_utf8_prefix(text);
    valid.append(text.substr(0, prefix));
    text.remove_prefix(prefix);
    if (text.empty()) break;
    size_t invalid = 0;
    leading_character(text, &invalid);
    append_utf8(valid, kReplacementCharacter);
    text.remove_prefix(invalid);
  }
  return valid;
}

bool is_white_space(char32_t code) {
  return (code >= 0x09 && code <= 0x0D) || code == 0x20 || code == 0x85 || code == 0xA0 || code == 0x1680 ||
         (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 || code == 0x202F ||
         code == 0x205F || code == 0x3000;
}

bool is_numeric(char32_t code) {
  start_oniguruma();
  return is_of_type(code, number_type());
}

bool is_word_character(char32_t code) {
  // Join_Control is these two; Oniguruma's word class leaves them out.
  return code == 0x200C || code == 0x200D || is_of_type(code, ONIGENC_CTYPE_WORD);
}

const CharClasses& CharClasses::get() {
  static const CharClasses classes;
  return classes;
}

CharClasses::CharClasses() {
  start_oniguruma();
  const auto paint = [&](int type, CharClass value) {
    const CodeRanges ranges = ranges_of(type);
    for (size_t i = 0; i < ranges.count; ++i) {
      for (size_t code = ranges.pairs[2 * i]; code <= ranges.pairs[2 * i + 1] && code < basic_.size();
           ++code) {
        basic_[code] = value;
      }
    }
  };
  paint(letter_type(), CharClass::kLetter);
  paint(number_type(), CharClass::kNumber);
  paint(ONIGENC_CTYPE_SPACE, CharClass::kSpace);
}

CharClass CharClasses::beyond_basic(char32_t code) const {
  if (is_of_type(code, letter_type())) return CharClass::kLetter;
  if (is_of_type(code, number_type())) return CharClass::kNumber;
  return is_of_type(code, ONIGENC_CTYPE_SPACE) ? CharClass::kSpace : CharClass::kOther;
}

}  // namespace ptq
