#include "tokenizer/normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <new>
#include <utility>
#include <vector>

#include "ptq/base/error.h"
#include "tokenizer/component.h"
#include "tokenizer/pattern.h"
#include "tokenizer/unicode.h"

namespace ptq {
namespace {

// NFC, NFD, NFKC, NFKD.
//
// Most text is in the form already. A character whose lead byte is below `unstable_lead` is a starter that no
// form changes, so only the runs between such characters go through utf8proc, each with the stable character
// before it: a mark may combine with that one.
class UnicodeForm : public Normalizer {
 public:
  UnicodeForm(int options, unsigned char unstable_lead)
      : options_(static_cast<utf8proc_option_t>(options | UTF8PROC_STABLE)), unstable_lead_(unstable_lead) {}

  void apply(NormalizedText& text) const override {
    const std::string_view source = text.text;
    std::string result;
    size_t copied = 0;
    for (size_t at = next_unstable(source, 0); at < source.size();) {
      size_t end = at;
      while (end < source.size() && is_unstable(source, end)) end += utf8_length(source[end]);
      size_t begin = at > copied ? utf8_previous(source, at) : at;
      if (is_high(source[begin])) begin = at;
      result.append(source.substr(copied, begin - copied));
      append_form(source.substr(begin, end - begin), result);
      copied = end;
      at = next_unstable(source, end);
    }
    if (copied == 0) return;
    result.append(source.substr(copied));
    check_growth(result.size(), text.max_bytes);
    text.text = std::move(result);
  }

  // Letters and spaces neither combine with what is before them nor become each other.
  bool allows(CutPlace, std::string&) const override { return true; }

 private:
  bool is_high(char lead) const { return static_cast<unsigned char>(lead) >= unstable_lead_; }

  bool is_unstable(std::string_view text, size_t at) const {
    return is_high(text[at]) && !is_normalized_since_unicode_10(utf8_at(text, at));
  }

  size_t next_unstable(std::string_view text, size_t at) const {
    while (at < text.size() && !is_unstable(text, at)) at += utf8_length(text[at]);
    return at;
  }

  void append_form(std::string_view text, std::string& out) const {
    utf8proc_uint8_t* form = nullptr;
    const auto length = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                     static_cast<utf8proc_ssize_t>(text.size()), &form, options_);
    // Valid UTF-8 leaves only one reason to fail.
    if (length < 0) throw std::bad_alloc();
    const std::unique_ptr<utf8proc_uint8_t, void (*)(void*)> owner(form, std::free);
    out.append(reinterpret_cast<const char*>(form), static_cast<size_t>(length));
  }

  utf8proc_option_t options_;
  unsigned char unstable_lead_;
};

class Lowercase : public Normalizer {
 public:
  void apply(NormalizedText& text) const override {
    std::string lower;
    lower.reserve(text.text.size());
    for (size_t at = 0; at < text.text.size(); at += utf8_length(text.text[at])) {
      const char32_t code = utf8_at(text.text, at);
      if (code == 0x130) {
        // The one letter whose lower case is two: i and a dot above.
        lower += "i\u0307";
      } else {
        append_utf8(lower, to_lower(code));
      }
    }
    text.text = std::move(lower);
  }

  bool allows(CutPlace, std::string&) const override { return true; }
};

class StripSpace : public Normalizer {
 public:
  StripSpace(bool left, bool right) : left_(left), right_(right) {}

  void apply(NormalizedText& text) const override {
    std::string_view rest = text.text;
    while (left_ && text.begins && !rest.empty() && is_white_space(utf8_at(rest, 0))) {
      rest.remove_prefix(utf8_length(rest[0]));
      text.at_start = false;
    }
    while (right_ && text.ends && !rest.empty()) {
      const size_t last = utf8_previous(rest, rest.size());
      if (!is_white_space(utf8_at(rest, last))) break;
      rest.remove_suffix(rest.size() - last);
    }
    text.text = std::string(rest);
  }

  // A part may end in a line feed that is not the text's last character, but for what is stripped.
  bool allows(CutPlace cut, std::string&) const override { return cut == CutPlace::kSpace; }

 private:
  bool left_;
  bool right_;
};

class Prepend : public Normalizer {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}

  void apply(NormalizedText& text) const override {
    if (text.text.empty() || !text.begins) return;
    check_growth(text.text.size() + prefix_.size(), text.max_bytes);
    text.text.insert(0, prefix_);
  }

  bool allows(CutPlace, std::string&) const override { return true; }

 private:
  std::string prefix_;
};

class Replace : public Normalizer {
 public:
  Replace(Pattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}

  void apply(NormalizedText& text) const override {
    const std::string_view source = text.text;
    const std::vector<Span> matches = pattern_.find_all(source);
    if (matches.empty()) return;
    // What replaces the first character is aligned with it; what replaces several is aligned with their last.
    if (const Span first = matches.front(); first.begin == 0 && first.end > 0) {
      text.at_start = text.at_start && !content_.empty() && first.end == utf8_length(source[0]);
    }
    std::string result;
    size_t copied = 0;
    for (const Span& match : matches) {
      result.append(source.substr(copied, match.begin - copied)).append(content_);
      check_growth(result.size(), text.max_bytes);
      copied = match.end;
    }
    result.append(source.substr(copied));
    text.text = std::move(result);
  }

  // No match spans the cut, and the characters around it stay what they are, except that a space becomes
  // something else.
  bool allows(CutPlace, std::string& space) const override {
    if (pattern_.literal_text() != space || space.size() != 1) return false;
    space = content_;
    return true;
  }

 private:
  Pattern pattern_;
  std::string content_;
};

class NormalizerSequence : public Normalizer {
 public:
  explicit NormalizerSequence(std::vector<std::unique_ptr<Normalizer>> steps) : steps_(std::move(steps)) {}

  void apply(NormalizedText& text) const override {
    for (const auto& step : steps_) step->apply(text);
  }

  bool allows(CutPlace cut, std::string& space) const override {
    return std::all_of(steps_.begin(), steps_.end(),
                       [&](const auto& step) { return step->allows(cut, space); });
  }

 private:
  std::vector<std::unique_ptr<Normalizer>> steps_;
};

using Made = std::unique_ptr<Normalizer>;

// Below U+0300 (lead byte 0xCC) no character is changed by composition; decomposition leaves only ASCII
// alone.
constexpr unsigned char kFirstComposing = 0xCC;
constexpr unsigned char kFirstNotAscii = 0x80;

Made make_nfc(Component&) {
  return std::make_unique<UnicodeForm>(UTF8PROC_COMPOSE, kFirstComposing);
}
Made make_nfd(Component&) {
  return std::make_unique<UnicodeForm>(UTF8PROC_DECOMPOSE, kFirstNotAscii);
}
Made make_nfkc(Component&) {
  return std::make_unique<UnicodeForm>(UTF8PROC_COMPOSE | UTF8PROC_COMPAT, kFirstNotAscii);
}
Made make_nfkd(Component&) {
  return std::make_unique<UnicodeForm>(UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, kFirstNotAscii);
}
Made make_lowercase(Component&) {
  return std::make_unique<Lowercase>();
}
Made make_strip(Component& json) {
  const bool left = json.required_boolean("strip_left");
  return std::make_unique<StripSpace>(left, json.required_boolean("strip_right"));
}
Made make_prepend(Component& json) {
  return std::make_unique<Prepend>(json.required_string("prepend"));
}
Made make_replace(Component& json) {
  Pattern pattern = Pattern::from_json(json.at("pattern"), json.path() + ".pattern");
  return std::make_unique<Replace>(std::move(pattern), json.required_string("content"));
}
Made make_sequence(Component& json) {
  std::vector<Made> steps;
  json.for_each_in("normalizers", [&](const Json& step, const std::string& path) {
    if (Made made = make_normalizer(step, path)) steps.push_back(std::move(made));
  });
  return std::make_unique<NormalizerSequence>(std::move(steps));
}

constexpr ComponentKind<Made> kNormalizers[] = {
    {"NFC", make_nfc},
    {"NFD", make_nfd},
    {"NFKC", make_nfkc},
    {"NFKD", make_nfkd},
    {"Lowercase", make_lowercase},
    {"Strip", make_strip},
    {"Prepend", make_prepend},
    {"Replace", make_replace},
    {"Sequence", make_sequence},
};

}  // namespace

size_t growth_limit(size_t input_bytes) {
  return 64 * input_bytes + (size_t{1} << 20);
}

void check_growth(size_t bytes, size_t max_bytes) {
  if (bytes > max_bytes) {
    throw Error("tokenizer",
                "the text grows past " + std::to_string(max_bytes) + " bytes on the way to tokens");
  }
}

std::unique_ptr<Normalizer> make_normalizer(const Json& json, const std::string& where) {
  return make_component<Made>(json, where, "normalizer", kNormalizers);
}

}  // namespace ptq
