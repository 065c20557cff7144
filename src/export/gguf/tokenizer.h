// tokenizer.json as llama.cpp's arrays, and back.
//
// llama.cpp splits text by regular expressions that are compiled into it and have names; the name is found by
// the pre-tokenizer of tokenizer.json. A tokenizer that is not known to give the same ids is refused.
#pragma once

#include <string>
#include <vector>

#include "export/gguf/file.h"
#include "export/gguf/writer.h"
#include "ptq/base/json.h"

namespace ptq {

struct GgufTokenizer {
  GgufMetadata metadata;  // tokenizer.*
  std::string model;      // "gpt2", "llama" or "no_vocab"
  std::vector<std::string> notes;
};

// The arrays for the tokenizer.json in `directory`, padded to `rows`, those of the embedding; "no_vocab" if
// there is none or `wanted` is false. Ids of BOS and EOS are those of `config`. Throws Error, with the advice
// to leave it out, for a tokenizer that llama.cpp does not have or that has more tokens than rows.
GgufTokenizer gguf_tokenizer(const std::string& directory, const Json& config, int64_t rows, bool wanted);

// A tokenizer.json for a file's arrays; "" if it has none. Throws Error for a kind that is not known.
std::string tokenizer_json_of(const GgufFile& file, const std::string& where);

}  // namespace ptq
