#include "tokenizer/splitters.h"

#include <algorithm>

#include "tokenizer/unicode.h"

namespace ptq {
namespace {

// Walks a text by character class.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text), classes_(CharClasses::get()) {}

  bool done(size_t at) const { return at >= text_.size(); }
  CharClass class_at(size_t at, size_t* length) const { return classes_.at(text_, at, length); }

  // Where the run of `wanted` that starts at `at` ends, after at most `max_count` characters.
  size_t run_end(size_t at, CharClass wanted, size_t max_count = SIZE_MAX) const {
    size_t length = 0;
    for (; max_count > 0 && !done(at) && class_at(at, &length) == wanted; --max_count) at += length;
    return at;
  }

  // \s+(?!\S)|\s+ on a run of white space: all of it at the end of the text, else all but its last character,
  // which belongs to what follows; a single character is taken as it is.
  size_t space_end(size_t at) const {
    const size_t end = run_end(at, CharClass::kSpace);
    if (done(end)) return end;
    const size_t last = utf8_previous(text_, end);
    return last == at ? end : last;
  }

 private:
  std::string_view text_;
  const CharClasses& classes_;
};

// End of 's 't 'm 'd 're 've 'll at `at`, or `at`.
size_t contraction_end(std::string_view text, size_t at) {
  if (text[at] != '\'' || at + 1 >= text.size()) return at;
  const char first = text[at + 1];
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return at + 2;
  const char second = at + 2 < text.size() ? text[at + 2] : '\0';
  if ((first == 'r' && second == 'e') || (first == 'v' && second == 'e') || (first == 'l' && second == 'l')) {
    return at + 3;
  }
  return at;
}

// The same in any case. The long s (U+017F) is an s to a caseless match.
size_t caseless_contraction_end(std::string_view text, size_t at) {
  if (text[at] != '\'') return at;
  char lower[3] = {'\'', '\0', '\0'};
  for (size_t i = 1; i < 3 && at + i < text.size(); ++i) {
    const char byte = text[at + i];
    lower[i] = byte >= 'A' && byte <= 'Z' ? static_cast<char>(byte - 'A' + 'a') : byte;
  }
  if (text.substr(at + 1).starts_with("\u017F")) return at + 3;
  return at + contraction_end(std::string_view(lower, 3), 0);
}

void split_gpt2(std::string_view text, std::vector<Span>& matches) {
  const Scanner scan(text);
  size_t at = 0;
  while (!scan.done(at)) {
    size_t end = contraction_end(text, at);
    if (end == at) {
      size_t length = 0;
      size_t body = at;
      CharClass kind = scan.class_at(at, &length);
      // One plain space belongs to the word, number or punctuation after it.
      if (text[at] == ' ' && !scan.done(at + 1)) {
        const CharClass next = scan.class_at(at + 1, &length);
        if (next != CharClass::kSpace) {
          kind = next;
          body = at + 1;
        }
      }
      end = kind == CharClass::kSpace ? scan.space_end(at) : scan.run_end(body + length, kind);
    }
    matches.push_back({at, end});
    at = end;
  }
}

bool is_newline(char byte) {
  return byte == '\r' || byte == '\n';
}

size_t newline_run_end(std::string_view text, size_t at) {
  while (at < text.size() && is_newline(text[at])) ++at;
  return at;
}

// White space in Llama 3's expression: up to its last line break if it has one (\s*[\r\n]+ is tried first).
size_t llama3_space_end(const Scanner& scan, std::string_view text, size_t at) {
  const size_t end = scan.run_end(at, CharClass::kSpace);
  for (size_t i = end; i > at; --i) {
    if (is_newline(text[i - 1])) return i;
  }
  return scan.space_end(at);
}

template <size_t kMaxDigits>
void split_llama3(std::string_view text, std::vector<Span>& matches) {
  const Scanner scan(text);
  size_t at = 0;
  while (!scan.done(at)) {
    size_t end = caseless_contraction_end(text, at);
    if (end == at) {
      size_t length = 0;
      const CharClass kind = scan.class_at(at, &length);
      size_t next_length = 0;
      const size_t next_at = at + length;
      const CharClass next = scan.done(next_at) ? CharClass::kSpace : scan.class_at(next_at, &next_length);
      if (kind == CharClass::kLetter) {
        end = scan.run_end(at, CharClass::kLetter);
      } else if (kind != CharClass::kNumber && next == CharClass::kLetter && !is_newline(text[at])) {
        end = scan.run_end(next_at, CharClass::kLetter);
      } else if (kind == CharClass::kNumber) {
        end = scan.run_end(at, CharClass::kNumber, kMaxDigits);
      } else if (kind == CharClass::kOther || (text[at] == ' ' && next == CharClass::kOther)) {
        end = newline_run_end(text, scan.run_end(next_at, CharClass::kOther));
      } else {
        end = llama3_space_end(scan, text, at);
      }
    }
    matches.push_back({at, end});
    at = end;
  }
}

struct KnownExpression {
  std::string_view expression;
  Splitter splitter;
};

constexpr KnownExpression kKnownExpressions[] = {
    {kGpt2Expression, split_gpt2},
    {kLlama3Expression, split_llama3<3>},
    {kQwen2Expression, split_llama3<1>},
};

}  // namespace

Splitter find_splitter(std::string_view expression) {
  for (const KnownExpression& known : kKnownExpressions) {
    if (known.expression == expression) return known.splitter;
  }
  return nullptr;
}

}  // namespace ptq
