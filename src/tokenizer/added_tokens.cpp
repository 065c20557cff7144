#include "tokenizer/added_tokens.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "ptq/base/error.h"
#include "tokenizer/component.h"
#include "tokenizer/sorted_strings.h"
#include "tokenizer/unicode.h"

namespace ptq {
namespace {

// A search may compare this much at every position of the text.
constexpr size_t kMaxContentBytes = 4096;

bool ends_in_word(std::string_view text) {
  return !text.empty() && is_word_character(utf8_at(text, utf8_previous(text, text.size())));
}

bool starts_with_word(std::string_view text) {
  return !text.empty() && is_word_character(utf8_at(text, 0));
}

size_t trailing_space_begin(std::string_view text) {
  size_t begin = text.size();
  while (begin > 0) {
    const size_t previous = utf8_previous(text, begin);
    if (!is_white_space(utf8_at(text, previous))) break;
    begin = previous;
  }
  return begin;
}

size_t leading_space_end(std::string_view text) {
  size_t end = 0;
  while (end < text.size() && is_white_space(utf8_at(text, end))) end += utf8_length(text[end]);
  return end;
}

AddedToken read_token(const Json& json, const std::string& where) {
  Component fields(json, where);
  AddedToken token;
  const Json& id = fields.at("id");
  if (!id.is_number_integer())
    throw Error(where + ".id", std::string("expected an integer, found ") + id.type_name());
  token.id = id.get<int64_t>();
  token.content = fields.required_string("content");
  token.special = fields.boolean("special", false);
  token.single_word = fields.boolean("single_word", false);
  token.lstrip = fields.boolean("lstrip", false);
  token.rstrip = fields.boolean("rstrip", false);
  token.normalized = fields.boolean("normalized", true);
  fields.refuse_others();
  if (token.id < 0 || token.id > kMaxTokenId) {
    throw Error(where + ".id",
                std::to_string(token.id) + " is not between 0 and " + std::to_string(kMaxTokenId));
  }
  if (token.content.empty() || token.content.size() > kMaxContentBytes) {
    throw Error(where + ".content", "has " + std::to_string(token.content.size()) + " bytes; expected 1 to " +
                                        std::to_string(kMaxContentBytes));
  }
  return token;
}

std::string normalized_content(const AddedToken& token, const Normalizer* normalizer,
                               const std::string& where) {
  NormalizedText text{token.content, true, growth_limit(token.content.size())};
  if (normalizer != nullptr) normalizer->apply(text);
  if (text.text.size() > kMaxContentBytes) {
    throw Error(where, "\"" + token.content + "\" has " + std::to_string(text.text.size()) +
                           " bytes when normalized; at most " + std::to_string(kMaxContentBytes) +
                           " are read");
  }
  return std::move(text.text);
}

}  // namespace

void TokenFinder::add(std::string text, const AddedToken& token) {
  entries_.push_back({std::move(text), token, entries_.size()});
}

void TokenFinder::finish() {
  const auto less = [](const Entry& a, const Entry& b) {
    return std::tie(a.text, a.order) < std::tie(b.text, b.order);
  };
  const auto text_equal = [](const Entry& a, const Entry& b) { return a.text == b.text; };
  std::sort(entries_.begin(), entries_.end(), less);
  entries_.erase(std::unique(entries_.begin(), entries_.end(), text_equal), entries_.end());
  for (uint32_t i = 0; i < entries_.size(); ++i) {
    Range& range = by_first_byte_[static_cast<unsigned char>(entries_[i].text[0])];
    if (range.end == 0) range.begin = i;
    range.end = i + 1;
  }
}

const TokenFinder::Entry* TokenFinder::longest_at(std::string_view text, size_t at) const {
  const Entry* longest = nullptr;
  auto [begin, end] = by_first_byte_[static_cast<unsigned char>(text[at])];
  for (size_t depth = 1; begin < end; ++depth) {
    // Of strings that agree so far, the one that ends here is sorted first.
    if (entries_[begin].text.size() == depth) longest = &entries_[begin++];
    if (begin == end || at + depth >= text.size()) break;
    std::tie(begin, end) = with_byte(entries_, begin, end, depth, text[at + depth]);
  }
  return longest;
}

std::vector<Segment> TokenFinder::split(std::string_view text) const {
  std::vector<Segment> segments;
  const auto push = [&](size_t begin, size_t end, int64_t id) {
    if (begin < end) segments.push_back({text.substr(begin, end - begin), id, begin});
  };
  size_t done = 0;
  for (size_t at = 0; at < text.size() && !entries_.empty();) {
    if (by_first_byte_[static_cast<unsigned char>(text[at])].end == 0) {
      ++at;
      continue;
    }
    const Entry* found = longest_at(text, at);
    if (found == nullptr) {
      ++at;
      continue;
    }
    size_t begin = at;
    size_t end = at + found->text.size();
    // A match that is not a word of its own is passed over as a whole.
    at = end;
    const AddedToken& token = found->token;
    if (token.single_word && (ends_in_word(text.substr(0, begin)) || starts_with_word(text.substr(end))))
      continue;
    if (token.lstrip) begin = std::max(trailing_space_begin(text.substr(0, begin)), done);
    if (token.rstrip) end += leading_space_end(text.substr(end));
    push(done, begin, -1);
    // Nothing is left of a token whose text an earlier one's rstrip has taken.
    push(begin, end, token.id);
    done = end;
  }
  push(done, text.size(), -1);
  return segments;
}

AddedTokens::AddedTokens(const Json& list, const Vocabulary& vocabulary, const Normalizer* normalizer,
                         const std::string& where) {
  if (list.is_null()) return;
  if (!list.is_array()) throw Error(where, std::string("expected an array, found ") + list.type_name());
  std::vector<AddedToken> tokens;
  tokens.reserve(list.size());
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string element = where + "[" + std::to_string(i) + "]";
    AddedToken token = read_token(list[i], element);
    check_id(token, vocabulary, element);
    if (!token_of_.emplace(token.id, token.content).second) {
      throw Error(element, "the id " + std::to_string(token.id) + " occurs twice");
    }
    max_id_ = std::max(max_id_, token.id);
    if (token.special) special_.insert(token.id);
    tokens.push_back(std::move(token));
  }
  // Special tokens come first where normalizing makes two contents equal.
  for (const bool special : {true, false}) {
    for (const AddedToken& token : tokens) {
      if (token.special != special) continue;
      if (!token.normalized) {
        raw_.add(token.content, token);
        continue;
      }
      // A token that the normalizer leaves nothing of is never found. Decoders undo what normalizers do, so
      // it is the normalized form that they are given.
      std::string text = normalized_content(token, normalizer, where);
      token_of_[token.id] = text;
      if (text.empty()) continue;
      normalized_.add(std::move(text), token);
    }
  }
  raw_.finish();
  normalized_.finish();
}

// The reference library gives a token that is not in the vocabulary the next free id, whatever the file says,
// with a warning. A file where the two differ has been edited by hand, and one of its readers would be wrong.
void AddedTokens::check_id(const AddedToken& token, const Vocabulary& vocabulary,
                           const std::string& where) const {
  const int64_t known = vocabulary.find(token.content);
  const int64_t expected = known >= 0                      ? known
                           : max_id_ >= vocabulary.count() ? max_id_ + 1
                                                           : vocabulary.count();
  if (token.id != expected) {
    throw Error(where, "\"" + token.content + "\" has the id " + std::to_string(token.id) + "; " +
                           (known >= 0 ? "in the vocabulary it is " : "the next free id is ") +
                           std::to_string(expected));
  }
}

const std::string* AddedTokens::token(int64_t id) const {
  const auto found = token_of_.find(id);
  return found == token_of_.end() ? nullptr : &found->second;
}

}  // namespace ptq
