// Normalizers of tokenizer.json: what is done to the text before it is split.
#pragma once

#include <memory>
#include <string>

#include "ptq/base/json.h"
#include "tokenizer/cut_place.h"

namespace ptq {

struct NormalizedText {
  std::string text;  // valid UTF-8
  // The first character comes from the first character of the input: nothing lies before it and nothing
  // before it was removed. Metaspace with prepend_scheme "first" asks.
  bool at_start = false;
  // A file can name replacements that multiply the text; past this size a normalizer throws Error.
  size_t max_bytes = 0;
  // False where the text was cut (text_cuts.h): its edge is not that of the text that the file speaks of.
  bool begins = true;
  bool ends = true;
};

// Largest text that `input_bytes` of text may grow to on the way.
size_t growth_limit(size_t input_bytes);
// Throws Error if `bytes` is over `max_bytes`.
void check_growth(size_t bytes, size_t max_bytes);

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual void apply(NormalizedText& text) const = 0;
  // Whether two parts that `cut` has parted become, one after the other, what they would have become
  // together. `space` is what a space is at that point, and afterwards what it has become.
  virtual bool allows(CutPlace cut, std::string& space) const = 0;
};

// Null for a JSON null. `where` names the component in errors. Throws Error for an unknown type or field.
std::unique_ptr<Normalizer> make_normalizer(const Json& json, const std::string& where);

}  // namespace ptq
