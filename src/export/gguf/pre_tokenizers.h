// Which of llama.cpp's compiled-in tokenizers a tokenizer.json is.
#pragma once

#include <string>

#include "ptq/base/json.h"

namespace ptq {

struct GgufKind {
  const char* model;         // tokenizer.ggml.model: "gpt2" (byte-level BPE) or "llama" (bytes as fallback)
  const char* pre;           // tokenizer.ggml.pre
  bool without_nfc = false;  // the file asks for NFC, which llama.cpp does not apply
};

// Throws Error, which says what is not known, with the advice to leave the tokenizer out.
GgufKind gguf_kind(const Json& tokenizer, const std::string& where);

// The inverse: the normalizer, pre-tokenizer, decoder and flags of the model, for what gguf_kind() gives.
// Throws Error for a kind that is not known.
Json tokenizer_of_kind(const std::string& model, const std::string& pre, const std::string& where);

}  // namespace ptq
