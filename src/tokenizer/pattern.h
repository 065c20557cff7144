// What Split and Replace look for: a literal string or a regular expression.
//
// Expressions are Oniguruma's, Ruby syntax, no options: the engine and settings of Hugging Face tokenizers.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ptq/base/json.h"

namespace ptq {

struct Span {
  size_t begin = 0;
  size_t end = 0;
  bool operator==(const Span&) const = default;
};

// Prepares Oniguruma for UTF-8. Called by everything that uses it; thread safe, costs nothing after the first
// call.
void start_oniguruma();

class Pattern {
 public:
  static Pattern literal(std::string text);
  // Throws Error, naming `where`, if the expression does not compile. With `use_splitter`, an expression that
  // a hand-written splitter stands in for is not run by Oniguruma.
  static Pattern regex(const std::string& source, const std::string& where, bool use_splitter = true);
  // {"String": text} or {"Regex": source}.
  static Pattern from_json(const Json& json, const std::string& where);

  ~Pattern();
  Pattern(Pattern&&) noexcept;
  Pattern& operator=(Pattern&&) noexcept;

  // Matches from left to right that do not overlap. An empty match directly after another match is skipped.
  // Throws Error if the search backtracks beyond all reason. Thread safe. REQUIRES: valid UTF-8.
  std::vector<Span> find_all(std::string_view text) const;

  // The string of a literal pattern; empty for an expression.
  const std::string& literal_text() const;
  // Whether a hand-written splitter (splitters.h) stands in for the expression.
  bool has_splitter() const;

 private:
  struct State;
  explicit Pattern(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace ptq
