// Where a text can be cut so that its parts, turned into tokens one after the other, give the tokens of the
// whole.
//
// A long text need then neither be read to its end for its first tokens nor be held in memory. Tokens depend
// on what stands around them by four things: added tokens, normalizers, pre-tokenizers and merges. Two kinds
// of places are looked at, which all text of any length has (cut_place.h):
//
//   ...the end| of the...       an ASCII letter before a space
//   ...the end.\n|Of the...     a line feed after a character that is no white space, and before a letter
//
// For each kind, each component says whether it works on both sides as if the other were not there.
// Pre-tokenizers that end a piece at the place settle it for all that come after them. If none does, merges
// might reach across: they do not if no token has the two characters side by side, since what a merge makes
// is a token. A tokenizer with a component of which none of this is known is not cut.
#pragma once

#include <array>
#include <string_view>

#include "tokenizer/added_tokens.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/word_model.h"

namespace ptq {

class TextCuts {
 public:
  // Of a tokenizer with these parts; `normalizer` may be null.
  TextCuts(const AddedTokens& added, const Normalizer* normalizer, const PreTokenizerChain& pre_tokenizers,
           const WordModel& model);

  // Whether there is any place at which a text may be cut.
  bool possible() const { return space_ || newline_; }
  // The last such place in `text` [bytes from its beginning], 0 if it has none. REQUIRES: valid UTF-8.
  size_t last(std::string_view text) const;

 private:
  bool is_cut(std::string_view text, size_t at) const;

  bool space_ = false;
  bool newline_ = false;
  std::array<bool, 128> letters_{};  // ASCII letters after which a space may be cut off
};

}  // namespace ptq
