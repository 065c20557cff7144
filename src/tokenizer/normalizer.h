// Normalizers of tokenizer.json: what is done to the text before it is split.
#pragma once

#include <memory>
#include <string>

#include "ptq/base/json.h"

namespace ptq {

struct NormalizedText {
  std::string text;  // valid UTF-8
  // The first character comes from the first character of the input: nothing lies before it and nothing
  // before it was removed. Metaspace with prepend_scheme "first" asks.
  bool at_start = false;
  // A file can name replacements that multiply the text; past this size a normalizer throws Error.
  size_t max_bytes = 0;
};

// Largest text that `input_bytes` of text may grow to on the way.
size_t growth_limit(size_t input_bytes);
// Throws Error if `bytes` is over `max_bytes`.
void check_growth(size_t bytes, size_t max_bytes);

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual void apply(NormalizedText& text) const = 0;
};

// Null for a JSON null. `where` names the component in errors. Throws Error for an unknown type or field.
std::unique_ptr<Normalizer> make_normalizer(const Json& json, const std::string& where);

}  // namespace ptq
