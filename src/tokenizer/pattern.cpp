#include "tokenizer/pattern.h"

#include <oniguruma.h>

#include <utility>

#include "ptq/base/error.h"
#include "tokenizer/splitters.h"
#include "tokenizer/unicode.h"

namespace ptq {
namespace {

// Real split expressions have a few hundred bytes. Oniguruma's compiler can be made to spend time and memory
// that grow faster than the expression.
constexpr size_t kMaxExpressionBytes = 4096;
// Steps back that one search may take. Split expressions take a few for each byte that they look at.
constexpr unsigned long kMaxRetries = 1'000'000;
constexpr unsigned long kMaxRetriesPerByte = 64;
// Pending alternatives of one match, some 40 bytes each: white space of this many characters in one run.
constexpr unsigned kMaxMatchStack = 4'000'000;

struct RegexFree {
  void operator()(regex_t* regex) const { onig_free(regex); }
};
struct RegionFree {
  void operator()(OnigRegion* region) const { onig_region_free(region, 1); }
};
struct MatchParamFree {
  void operator()(OnigMatchParam* param) const { onig_free_match_param(param); }
};

const OnigUChar* bytes_of(const char* text) {
  return reinterpret_cast<const OnigUChar*>(text);
}

std::string onig_message(int status, OnigErrorInfo* info) {
  OnigUChar buffer[ONIG_MAX_ERROR_MESSAGE_LEN];
  const int length =
      info != nullptr ? onig_error_code_to_str(buffer, status, info) : onig_error_code_to_str(buffer, status);
  return replace_invalid_utf8({reinterpret_cast<const char*>(buffer), static_cast<size_t>(length)});
}

std::vector<Span> find_literal(std::string_view text, const std::string& needle) {
  std::vector<Span> found;
  for (size_t at = text.find(needle); at != std::string_view::npos;
       at = text.find(needle, at + needle.size())) {
    found.push_back({at, at + needle.size()});
  }
  return found;
}

}  // namespace

struct Pattern::State {
  std::string literal;
  std::string where;
  Splitter splitter = nullptr;
  std::unique_ptr<regex_t, RegexFree> regex;

  std::vector<Span> find_regex(std::string_view text) const;
  void check_match(const Span& match, size_t least_begin, std::string_view text) const;
};

void start_oniguruma() {
  static const bool started = [] {
    OnigEncoding encodings[] = {ONIG_ENCODING_UTF8};
    onig_initialize(encodings, 1);
    return true;
  }();
  (void)started;
}

Pattern::Pattern(std::unique_ptr<State> state) : state_(std::move(state)) {}
Pattern::~Pattern() = default;
Pattern::Pattern(Pattern&&) noexcept = default;
Pattern& Pattern::operator=(Pattern&&) noexcept = default;

Pattern Pattern::literal(std::string text) {
  // The empty string matches between all characters; the regex engine defines where.
  if (text.empty()) return regex("", "empty pattern");
  auto state = std::make_unique<State>();
  state->literal = std::move(text);
  return Pattern(std::move(state));
}

Pattern Pattern::regex(const std::string& source, const std::string& where, bool use_splitter) {
  if (source.size() > kMaxExpressionBytes) {
    throw Error(where, "a regular expression of " + std::to_string(source.size()) + " bytes; at most " +
                           std::to_string(kMaxExpressionBytes) + " are read");
  }
  start_oniguruma();
  auto state = std::make_unique<State>();
  state->where = where;
  state->splitter = use_splitter ? find_splitter(source) : nullptr;
  regex_t* regex = nullptr;
  OnigErrorInfo info{};
  const OnigUChar* begin = bytes_of(source.data());
  const int status = onig_new(&regex, begin, begin + source.size(), ONIG_OPTION_NONE, ONIG_ENCODING_UTF8,
                              ONIG_SYNTAX_RUBY, &info);
  state->regex.reset(regex);
  if (status != ONIG_NORMAL) {
    throw Error(where,
                "the regular expression \"" + source + "\" does not compile: " + onig_message(status, &info));
  }
  return Pattern(std::move(state));
}

Pattern Pattern::from_json(const Json& json, const std::string& where) {
  if (!json.is_object() || json.size() != 1 || !json.begin().value().is_string()) {
    throw Error(where, "expected {\"String\": text} or {\"Regex\": expression}");
  }
  const std::string kind = json.begin().key();
  const std::string text = json.begin().value().get<std::string>();
  if (kind == "String") return literal(text);
  if (kind == "Regex") return regex(text, where);
  throw Error(where, "unknown kind of pattern \"" + kind + "\"", "String or Regex");
}

std::vector<Span> Pattern::find_all(std::string_view text) const {
  if (text.empty()) return {};
  if (state_->splitter != nullptr) {
    std::vector<Span> found;
    found.reserve(text.size() / 4);
    state_->splitter(text, found);
    return found;
  }
  return state_->regex != nullptr ? state_->find_regex(text) : find_literal(text, state_->literal);
}

const std::string& Pattern::literal_text() const {
  return state_->literal;
}

bool Pattern::has_splitter() const {
  return state_->splitter != nullptr;
}

// \K within a look-behind can put the start of a match into the one before.
void Pattern::State::check_match(const Span& match, size_t least_begin, std::string_view text) const {
  const auto inside_character = [&](size_t at) {
    return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80;
  };
  if (match.begin < least_begin || match.begin > match.end || match.end > text.size() ||
      inside_character(match.begin) || inside_character(match.end)) {
    throw Error(where, "the regular expression matches bytes " + std::to_string(match.begin) + " to " +
                           std::to_string(match.end) + ", which is no piece of the text");
  }
}

std::vector<Span> Pattern::State::find_regex(std::string_view text) const {
  const std::unique_ptr<OnigRegion, RegionFree> region(onig_region_new());
  const std::unique_ptr<OnigMatchParam, MatchParamFree> param(onig_new_match_param());
  if (region == nullptr || param == nullptr) throw std::bad_alloc();
  onig_initialize_match_param(param.get());
  const unsigned long retries = kMaxRetries + kMaxRetriesPerByte * text.size();
  onig_set_retry_limit_in_match_of_match_param(param.get(), retries);
  onig_set_retry_limit_in_search_of_match_param(param.get(), retries);
  onig_set_match_stack_limit_size_of_match_param(param.get(), kMaxMatchStack);

  std::vector<Span> found;
  const OnigUChar* begin = bytes_of(text.data());
  const OnigUChar* end = begin + text.size();
  size_t at = 0;
  while (at <= text.size()) {
    const int status = onig_search_with_param(regex.get(), begin, end, begin + at, end, region.get(),
                                              ONIG_OPTION_NONE, param.get());
    if (status == ONIG_MISMATCH) break;
    if (status < 0) {
      throw Error(where, "the regular expression gave up " + std::to_string(at) + " bytes into a text of " +
                             std::to_string(text.size()) + ": " + onig_message(status, nullptr));
    }
    const Span match{static_cast<size_t>(region->beg[0]), static_cast<size_t>(region->end[0])};
    check_match(match, found.empty() ? 0 : found.back().end, text);
    const bool repeated = match.begin == match.end && !found.empty() && found.back().end == match.end;
    if (repeated) {
      at += at < text.size() ? utf8_length(text[at]) : 1;
    } else {
      found.push_back(match);
      at = match.end;
    }
  }
  return found;
}

}  // namespace ptq
