#include "tokenizer/text_cuts.h"

#include <algorithm>
#include <string>

#include "tokenizer/unicode.h"

namespace ptq {
namespace {

bool is_ascii_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// Letters that normalizing leaves letters: Latin, Cyrillic, kana, Han, Hangul.
bool is_plain_letter(char32_t code) {
  return (code < 0x80 && is_ascii_letter(static_cast<char>(code))) || (code >= 0x410 && code <= 0x44F) ||
         (code >= 0x3041 && code <= 0x3096) || (code >= 0x30A1 && code <= 0x30FA) ||
         (code >= 0x4E00 && code <= 0x9FFF) || (code >= 0xAC00 && code <= 0xD7A3);
}

// Characters that normalizing does not make white space of.
bool may_end_line(char32_t code) {
  return (code > ' ' && code < 0x7F) || is_plain_letter(code) || (code >= 0x3001 && code <= 0x3011) ||
         (code >= 0xFF01 && code <= 0xFF5E);
}

// Whether `tokens` are found on each side of a cut as if the other side were not there. `space` is what a
// space is in the text that they are looked for in.
bool allow(const TokenFinder& tokens, CutPlace cut, const std::string& space) {
  return tokens.all_of([&](const std::string& text, const AddedToken& token) {
    for (size_t at = 1; at < text.size(); ++at) {
      const bool spans = cut == CutPlace::kSpace
                             ? is_ascii_letter(text[at - 1]) && text.substr(at).starts_with(space)
                             : text[at - 1] == '\n';
      if (spans) return false;
    }
    if (cut == CutPlace::kSpace)
      return !(token.rstrip && is_ascii_letter(text.back())) &&
             !(token.single_word && text.starts_with(space));
    return !(token.single_word && text.ends_with('\n')) &&
           !(token.lstrip && is_plain_letter(utf8_at(text, 0)));
  });
}

}  // namespace

TextCuts::TextCuts(const AddedTokens& added, const Normalizer* normalizer,
                   const PreTokenizerChain& pre_tokenizers, const WordModel& model) {
  for (const CutPlace cut : {CutPlace::kSpace, CutPlace::kNewline}) {
    std::string space = " ";
    if (!allow(added.in_raw_text(), cut, space)) continue;
    if (normalizer != nullptr && !normalizer->allows(cut, space)) continue;
    if (space != " " && space != "\u2581") continue;  // it must not look like a letter to what comes next
    if (!allow(added.in_normalized_text(), cut, space)) continue;
    AtCut at_cut = AtCut::kLeaves;
    for (const auto& step : pre_tokenizers.steps) {
      if (at_cut == AtCut::kLeaves) at_cut = step->at_cut(cut, space);
    }
    if (at_cut == AtCut::kUnknown) continue;
    const bool splits = at_cut == AtCut::kSplits;
    if (cut == CutPlace::kNewline) {
      newline_ = splits || model.apart_after_newline();
      continue;
    }
    // Without a split the letter itself counts, and a normalizer may have made a capital small.
    std::array<bool, 128> apart{};
    if (!splits) apart = model.apart_from(space);
    for (size_t c = 0; c < letters_.size(); ++c) {
      letters_[c] = is_ascii_letter(static_cast<char>(c)) && (splits || (c >= 'a' && apart[c]));
    }
    space_ = std::find(letters_.begin(), letters_.end(), true) != letters_.end();
  }
}

bool TextCuts::is_cut(std::string_view text, size_t at) const {
  const char before = text[at - 1];
  if (text[at] == ' ') return before >= 0 && letters_[static_cast<size_t>(before)];
  if (!newline_ || before != '\n' || at < 2 || !is_plain_letter(utf8_at(text, at))) return false;
  return may_end_line(utf8_at(text, utf8_previous(text, at - 1)));
}

size_t TextCuts::last(std::string_view text) const {
  if (!possible()) return 0;
  for (size_t at = text.size(); at-- > 1;) {
    const bool begins_character = (static_cast<unsigned char>(text[at]) & 0xC0) != 0x80;
    if (begins_character && is_cut(text, at)) return at;
  }
  return 0;
}

}  // namespace ptq
