#include "tokenizer/unicode.h"

#include <oniguruma.h>
#include <utf8proc.h>

#include <algorithm>
#include <cassert>
#include <cstring>
#include <iterator>
#include <span>

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

struct CodeRange {
  char32_t first;
  char32_t last;
};

// Digits of Unicode 15 to 17: the reference library knows them, Oniguruma's tables may be older.
constexpr CodeRange kRecentNumbers[] = {{0x10D40, 0x10D49}, {0x116D0, 0x116E3}, {0x11BF0, 0x11BF9},
                                        {0x11DE0, 0x11DE9}, {0x11F50, 0x11F59}, {0x16130, 0x16139},
                                        {0x16D70, 0x16D79}, {0x16FF4, 0x16FF6}, {0x1CCF0, 0x1CCF9},
                                        {0x1D2C0, 0x1D2D3}, {0x1E4F0, 0x1E4F9}, {0x1E5F1, 0x1E5FA}};

// Characters of Unicode 10 to 15 that have a combining class or a decomposition.
constexpr CodeRange kNormalizedSinceUnicode10[] = {
    {0x7FD, 0x7FD},     {0x899, 0x89B},     {0x8CF, 0x8D3},     {0xC3C, 0xC3C},     {0xD3B, 0xD3C},
    {0xEBA, 0xEBA},     {0x1715, 0x1715},   {0x1ABF, 0x1AC0},   {0x1AC3, 0x1AC4},   {0x1ACA, 0x1ACA},
    {0x1DF6, 0x1DFA},   {0x32FF, 0x32FF},   {0xA7F2, 0xA7F4},   {0xA82C, 0xA82C},   {0xAB69, 0xAB69},
    {0x10781, 0x10785}, {0x10787, 0x107B0}, {0x107B2, 0x107BA}, {0x10EFD, 0x10EFF}, {0x10F46, 0x10F47},
    {0x10F4B, 0x10F4B}, {0x10F4D, 0x10F50}, {0x10F83, 0x10F83}, {0x10F85, 0x10F85}, {0x11070, 0x11070},
    {0x1133B, 0x1133B}, {0x11839, 0x1183A}, {0x11938, 0x11938}, {0x1193D, 0x1193E}, {0x11943, 0x11943},
    {0x119E0, 0x119E0}, {0x11A34, 0x11A34}, {0x11A47, 0x11A47}, {0x11A99, 0x11A99}, {0x11D42, 0x11D42},
    {0x11D44, 0x11D45}, {0x11D97, 0x11D97}, {0x11F41, 0x11F42}, {0x16FF0, 0x16FF1}, {0x1E030, 0x1E06D},
    {0x1E4EC, 0x1E4EE}, {0x1F16C, 0x1F16C}, {0x1FBF0, 0x1FBF9}};

// REQUIRES: the ranges are in order.
bool is_in(char32_t code, std::span<const CodeRange> ranges) {
  const auto after =
      std::upper_bound(ranges.begin(), ranges.end(), code,
                       [](char32_t value, const CodeRange& range) { return value < range.first; });
  return after != ranges.begin() && code <= std::prev(after)->last;
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
  if (is_of_type(code, number_type())) return true;
  return is_in(code, kRecentNumbers);
}

bool is_punctuation(char32_t code) {
  // Punctuation since Unicode 9, which the reference library does not know as such, and two characters that
  // have become something else.
  static constexpr CodeRange kRecent[] = {
      {0x61D, 0x61D},     {0x9FD, 0x9FD},     {0xA76, 0xA76},     {0xC77, 0xC77},     {0xC84, 0xC84},
      {0x1B7D, 0x1B7E},   {0x2E43, 0x2E4F},   {0x2E52, 0x2E5D},   {0x10EAD, 0x10EAD}, {0x10F55, 0x10F59},
      {0x10F86, 0x10F89}, {0x1144B, 0x1144F}, {0x1145A, 0x1145B}, {0x1145D, 0x1145D}, {0x11660, 0x1166C},
      {0x116B9, 0x116B9}, {0x1183B, 0x1183B}, {0x11944, 0x11946}, {0x119E2, 0x119E2}, {0x11A3F, 0x11A46},
      {0x11A9A, 0x11A9C}, {0x11A9E, 0x11AA2}, {0x11C41, 0x11C45}, {0x11C70, 0x11C71}, {0x11EF7, 0x11EF8},
      {0x11FFF, 0x11FFF}, {0x12FF1, 0x12FF2}, {0x16E97, 0x16E9A}, {0x16FE2, 0x16FE2}, {0x1E95E, 0x1E95F}};
  if (code == 0x166D || code == 0x111C9) return true;
  if (code < 0x80) {
    return (code >= '!' && code <= '/') || (code >= ':' && code <= '@') || (code >= '[' && code <= '`') ||
           (code >= '{' && code <= '~');
  }
  start_oniguruma();
  static const int type = property("P");
  return is_of_type(code, type) && !is_in(code, kRecent);
}

char32_t to_lower(char32_t code) {
  // Letters of Unicode 16 and 17, which utf8proc may not know.
  static constexpr struct {
    char32_t first, last, lower_of_first;
  } kRecent[] = {{0x1C89, 0x1C89, 0x1C8A},   {0xA7CB, 0xA7CB, 0x264},  {0xA7CC, 0xA7CC, 0xA7CD},
                 {0xA7CE, 0xA7CE, 0xA7CF},   {0xA7D2, 0xA7D2, 0xA7D3}, {0xA7D4, 0xA7D4, 0xA7D5},
                 {0xA7DA, 0xA7DA, 0xA7DB},   {0xA7DC, 0xA7DC, 0x19B},  {0x10D50, 0x10D65, 0x10D70},
                 {0x16EA0, 0x16EB8, 0x16EBB}};
  for (const auto& range : kRecent) {
    if (code >= range.first && code <= range.last) return range.lower_of_first + (code - range.first);
  }
  return static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code)));
}

char32_t to_title(char32_t code) {
  return static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(code)));
}

bool is_normalized_since_unicode_10(char32_t code) {
  return is_in(code, kNormalizedSinceUnicode10);
}

bool is_word_character(char32_t code) {
  // Oniguruma's own \w also takes numbers such as one half.
  start_oniguruma();
  static const int types[] = {property("Alphabetic"), property("M"), property("Nd"), property("Pc")};
  if (code == 0x200C || code == 0x200D) return true;  // Join_Control
  return std::any_of(std::begin(types), std::end(types), [&](int type) { return is_of_type(code, type); });
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
