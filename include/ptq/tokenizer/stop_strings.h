// Ends a text at the first of some strings.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ptq {

// A text that comes in pieces, up to where one of `strings` first becomes complete; of two that do at the
// same byte the longer counts. How the text is cut into pieces makes no difference.
class StopStrings {
 public:
  // None of them may be empty.
  explicit StopStrings(std::vector<std::string> strings) : strings_(std::move(strings)) {}

  // What may be shown of the text so far and was not yet: the end that a string may begin with is held back.
  // Nothing more after found().
  std::string add(std::string_view piece);
  // What is held back, at the end of the text.
  std::string finish();
  // Whether the text has come to one of the strings, which is no part of what was returned.
  bool found() const { return found_; }

 private:
  std::vector<std::string> strings_;
  std::string held_;
  bool found_ = false;
};

}  // namespace ptq
