// Continues a text: one token after another, until something ends it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "ptq/engine/decoder.h"
#include "ptq/engine/sampling.h"
#include "ptq/tokenizer/tokenizer.h"

namespace ptq {

struct ContinuationOptions {
  SamplingOptions sampling;
  int64_t max_tokens = 0;
  std::vector<int64_t> end_tokens;
  std::vector<std::string> stop_strings;  // not empty
};

enum class Ending { kLength, kEndToken, kStopString };

// "length", "end" or "stop".
const char* ending_name(Ending ending);

struct Continuation {
  std::string prompt;        // the text of the prompt's tokens
  std::string text;          // what was written, without the end token or the stop string
  std::vector<int64_t> ids;  // of the prompt, and all that were written
  int64_t prompt_tokens = 0;
  Ending ending = Ending::kLength;
  double prompt_seconds = 0;  // until the first token is known
  double decode_seconds = 0;  // for the others
  int64_t written() const { return static_cast<int64_t>(ids.size()) - prompt_tokens; }
};

// Continues `prompt`, which has a token at least. `decoder` is for one sequence and at its beginning. `row`
// is the number of the prompt, on which draws depend. `on_text` gets the text as it is made: that of the
// prompt, and then what can no longer change, in whole characters. Stop strings are looked for in what is
// written. The text depends on prompt, row and options only. Throws Error, and when it is interrupted.
Continuation continue_text(Decoder& decoder, const Tokenizer& tokenizer, const std::vector<int64_t>& prompt,
                           int64_t row, const ContinuationOptions& options,
                           const std::function<void(const std::string&)>& on_text);

}  // namespace ptq
