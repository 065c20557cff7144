// Added tokens: strings that become one token wherever they stand in the text, before anything else looks at
// it.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "ptq/base/json.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/vocabulary.h"

namespace ptq {

struct AddedToken {
  int64_t id = 0;
  std::string content;
  bool special = false;      // left out by decode() with skip_special
  bool single_word = false;  // not next to a word character
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;       // and after it
  bool normalized = false;   // looked for in the normalized text
};

// A part of a text: an added token, or text between them if `id` is negative.
struct Segment {
  std::string_view text;
  int64_t id = -1;
  size_t begin = 0;  // of `text` in the text that was searched
};

// Finds one set of strings, the longest of those that start leftmost.
//
// The strings are sorted, so those with a common beginning are neighbours, and a search narrows that range
// byte by byte. Compared with an automaton it costs no memory beyond the strings, which come from a file.
class TokenFinder {
 public:
  // `text` is what is looked for in place of the token's content. Of two equal texts the first counts.
  void add(std::string text, const AddedToken& token);
  // REQUIRES: called once, after the last add().
  void finish();
  // Parts of `text` in order, without empty ones.
  std::vector<Segment> split(std::string_view text) const;
  // Whether `holds(text, token)` is true of every string that is looked for.
  template <typename Holds>
  bool all_of(const Holds& holds) const {
    return std::all_of(entries_.begin(), entries_.end(),
                       [&](const Entry& entry) { return holds(entry.text, entry.token); });
  }

 private:
  struct Entry {
    std::string text;
    AddedToken token;
    size_t order = 0;  // of add()
  };
  struct Range {
    uint32_t begin = 0;
    uint32_t end = 0;
  };

  const Entry* longest_at(std::string_view text, size_t at) const;

  std::vector<Entry> entries_;
  std::array<Range, 256> by_first_byte_{};
};

class AddedTokens {
 public:
  // `list` is "added_tokens" of tokenizer.json or null. Throws Error for an id that is not the one that the
  // token has in the vocabulary or, for a token outside it, not the next free one.
  AddedTokens(const Json& list, const Vocabulary& vocabulary, const Normalizer* normalizer,
              const std::string& where);

  const TokenFinder& in_raw_text() const { return raw_; }
  const TokenFinder& in_normalized_text() const { return normalized_; }
  // What decoding starts from: the normalized form for a token that is looked for in normalized text. Null if
  // no added token has this id.
  const std::string* token(int64_t id) const;
  bool is_special(int64_t id) const { return special_.contains(id); }
  int64_t max_id() const { return max_id_; }

 private:
  void check_id(const AddedToken& token, const Vocabulary& vocabulary, const std::string& where) const;

  TokenFinder raw_;
  TokenFinder normalized_;
  std::unordered_map<int64_t, std::string> token_of_;
  std::unordered_set<int64_t> special_;
  int64_t max_id_ = -1;
};

}  // namespace ptq
