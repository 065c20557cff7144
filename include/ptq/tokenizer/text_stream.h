// The text of tokens that come one after another.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ptq/tokenizer/tokenizer.h"

namespace ptq {

// Pieces of text that are never taken back: whole characters, and together, to the byte, what
// Tokenizer::decode() makes of all the tokens. The exception is a decoder that replaces text across tokens.
// Cost of a token: decoding those since the last one that ended a character.
class TextStream {
 public:
  // `tokenizer` must outlive the stream.
  explicit TextStream(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  // The text before the first token of add(). Returns decode(ids). For use once, before add().
  std::string begin(const std::vector<int64_t>& ids);
  // What `id` adds to the text, as far as no later token can change it. Bytes of a character that is not
  // whole yet wait, and bytes of their own (<0xE2>) until a token comes that is none: one wrong byte
  // changes the text of all those beside it.
  std::string add(int64_t id);
  // What still waits: a character that did not become whole is U+FFFD.
  std::string finish();

 private:
  std::string give(const std::string& text);

  const Tokenizer& tokenizer_;
  std::vector<int64_t> tail_;  // tokens from the last one that ended a character
  std::string given_;          // of the text of tail_
};

}  // namespace ptq
