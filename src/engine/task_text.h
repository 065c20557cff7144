// The string operations that lm-evaluation-harness makes prompts with, as Python has them. All texts are
// valid UTF-8.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ptq {

// str.rstrip() and str.strip().
std::string_view without_end_spaces(std::string_view text);
std::string_view without_spaces(std::string_view text);

// str.capitalize(), letter by letter: the first in title case, the others in lower case.
std::string capitalized(std::string_view text);

// len(str): code points.
int64_t length_in_characters(std::string_view text);

// HellaSwag's texts without what its WikiHow part has in brackets.
std::string without_brackets(std::string_view text);

// `text` with every `from` replaced, left to right. REQUIRES: `from` is not empty.
std::string replaced(std::string_view text, std::string_view from, std::string_view to);

}  // namespace ptq
