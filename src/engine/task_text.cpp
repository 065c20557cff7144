#include "engine/task_text.h"

#include "tokenizer/unicode.h"

namespace ptq {
namespace {

// str.isspace(): beyond White_Space, the separators of ASCII.
bool is_space(char32_t code) {
  return is_white_space(code) || (code >= 0x1C && code <= 0x1F);
}

}  // namespace

std::string_view without_end_spaces(std::string_view text) {
  while (!text.empty()) {
    const size_t last = utf8_previous(text, text.size());
    if (!is_space(utf8_at(text, last))) break;
    text = text.substr(0, last);
  }
  return text;
}

std::string_view without_spaces(std::string_view text) {
  text = without_end_spaces(text);
  while (!text.empty() && is_space(utf8_at(text, 0))) text.remove_prefix(utf8_length(text.front()));
  return text;
}

std::string capitalized(std::string_view text) {
  std::string result;
  for (size_t at = 0; at < text.size(); at += utf8_length(text[at])) {
    const char32_t code = utf8_at(text, at);
    append_utf8(result, at == 0 ? to_title(code) : to_lower(code));
  }
  return result;
}

int64_t length_in_characters(std::string_view text) {
  int64_t length = 0;
  for (size_t at = 0; at < text.size(); at += utf8_length(text[at])) ++length;
  return length;
}

std::string replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string result;
  while (true) {
    const size_t found = text.find(from);
    result += text.substr(0, found);
    if (found == std::string_view::npos) return result;
    result += to;
    text.remove_prefix(found + from.size());
  }
}

// re.sub(r"\[.*?\]", "", text) between the replacements: a bracket that its line does not close stays.
std::string without_brackets(std::string_view text) {
  const std::string titled = replaced(without_spaces(text), " [title]", ". ");
  std::string result;
  for (size_t at = 0; at < titled.size();) {
    const size_t end = titled[at] == '[' ? titled.find_first_of("]\n", at) : std::string::npos;
    if (end != std::string::npos && titled[end] == ']') {
      at = end + 1;
    } else {
      result += titled[at++];
    }
  }
  return replaced(result, "  ", " ");
}

}  // namespace ptq
