// The token ids that a model is calibrated and measured on.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "ptq/tokenizer/text_file.h"
#include "ptq/tokenizer/tokenizer.h"

namespace ptq {

struct TokenSource {
  TextInput text;  // a text (ptq/tokenizer/text_file.h), or ids: .npy, .safetensors (`input_ids`), .bin
  std::string token_dtype;  // --token-dtype, for .bin
};

inline constexpr int64_t kAllTokens = std::numeric_limits<int64_t>::max();

// Whether the name is not that of a file of ids.
bool is_text_file(const std::string& path);

// The first `count` ids of one file. The documents of a text are joined by a newline, and the template's BOS
// is added where the tokenizer has one. No more of a text is tokenized than is asked for; all of it is
// checked for being text. `tokenizer` may be null for files of ids. What had to be decided to read the file
// is added to `remarks`. Throws Error if the file is empty, a text comes without a tokenizer, or an id lies
// outside [0, vocab_size).
std::vector<int64_t> read_tokens(const TokenSource& source, const Tokenizer* tokenizer, int64_t vocab_size,
                                 int64_t count, std::vector<std::string>& remarks);

// The first `count` consecutive windows of `length` ids: [count, length] int64, fewer if there are fewer ids.
// Throws Error, naming `where`, if there is not one.
at::Tensor first_windows(const std::vector<int64_t>& ids, int64_t count, int64_t length,
                         const std::string& where);

// The windows of all parts [windows, length]: the first of each, the second of each, and so on; the longer
// parts end alone. [sum of windows, length]
at::Tensor in_turns(const std::vector<at::Tensor>& parts);

}  // namespace ptq
