// The token ids that a model is calibrated and measured on.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <vector>

#include "ptq/tokenizer/tokenizer.h"

namespace ptq {

struct TokenSource {
  std::string path;         // text, .jsonl, .npy, .safetensors (`input_ids`) or .bin
  std::string token_dtype;  // --token-dtype, for .bin
};

// All ids of one file. Text is tokenized whole, the documents of a .jsonl file joined by a newline; the
// template's BOS is added where the tokenizer has one. `tokenizer` may be null for files of ids. Throws Error
// if the file is empty, a text comes without a tokenizer, or an id lies outside [0, vocab_size).
std::vector<int64_t> read_tokens(const TokenSource& source, const Tokenizer* tokenizer, int64_t vocab_size);

// The first `rows` consecutive windows of `length` ids: [rows, length] int64, fewer rows if there are fewer
// ids. Throws Error, naming `where`, if there is not one window.
at::Tensor first_windows(const std::vector<int64_t>& ids, int64_t rows, int64_t length,
                         const std::string& where);

// The rows of all parts [rows, length]: the first of each, the second of each, and so on; the longer parts
// end alone. [sum of rows, length]
at::Tensor in_turns(const std::vector<at::Tensor>& parts);

}  // namespace ptq
