// Decoders of tokenizer.json: from tokens to text.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ptq/base/json.h"

namespace ptq {

class TokenDecoder {
 public:
  virtual ~TokenDecoder() = default;
  // Rewrites the tokens; the text is what they join to. `max_bytes` bounds what a replacement may grow to.
  virtual void apply(std::vector<std::string>& tokens, size_t max_bytes) const = 0;
};

// Null for a JSON null: tokens are then joined with spaces. Throws Error for an unknown type or field.
std::unique_ptr<TokenDecoder> make_decoder(const Json& json, const std::string& where);

// The value of a token "<0xNN>".
std::optional<unsigned char> fallback_byte(std::string_view token);

}  // namespace ptq
