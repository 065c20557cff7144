#include "tokenizer/decoder.h"

#include <utility>

#include "ptq/base/error.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/component.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/pattern.h"
#include "tokenizer/unicode.h"

namespace ptq {
namespace {

std::string join(const std::vector<std::string>& tokens) {
  std::string text;
  for (const std::string& token : tokens) text += token;
  return text;
}

class ByteLevelDecoder : public TokenDecoder {
 public:
  void apply(std::vector<std::string>& tokens, size_t) const override {
    std::string bytes;
    for (const std::string& token : tokens) append_from_byte_characters(token, bytes);
    tokens.assign(1, replace_invalid_utf8(bytes));
  }
};

class ReplaceDecoder : public TokenDecoder {
 public:
  ReplaceDecoder(Pattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}

  void apply(std::vector<std::string>& tokens, size_t max_bytes) const override {
    size_t total = 0;
    for (std::string& token : tokens) {
      std::string result;
      size_t copied = 0;
      for (const Span& match : pattern_.find_all(token)) {
        result.append(token, copied, match.begin - copied).append(content_);
        check_growth(total + result.size(), max_bytes);
        copied = match.end;
      }
      result.append(token, copied);
      token = std::move(result);
      total += token.size();
    }
  }

 private:
  Pattern pattern_;
  std::string content_;
};

// Joins runs of <0xNN> tokens into text; every byte of a run that is not valid UTF-8 becomes U+FFFD.
class ByteFallback : public TokenDecoder {
 public:
  void apply(std::vector<std::string>& tokens, size_t) const override {
    std::vector<std::string> out;
    std::string run;
    const auto flush = [&] {
      if (run.empty()) return;
      if (valid_utf8_prefix(run) == run.size()) {
        out.push_back(run);
      } else {
        out.insert(out.end(), run.size(), "\uFFFD");
      }
      run.clear();
    };
    for (std::string& token : tokens) {
      if (const auto byte = fallback_byte(token)) {
        run.push_back(static_cast<char>(*byte));
      } else {
        flush();
        out.push_back(std::move(token));
      }
    }
    flush();
    tokens = std::move(out);
  }
};

class Fuse : public TokenDecoder {
 public:
  void apply(std::vector<std::string>& tokens, size_t) const override { tokens.assign(1, join(tokens)); }
};

// Takes up to `start` and `stop` copies of a character off the ends of every token.
class StripDecoder : public TokenDecoder {
 public:
  StripDecoder(std::string character, int64_t start, int64_t stop)
      : character_(std::move(character)), start_(start), stop_(stop) {}

  void apply(std::vector<std::string>& tokens, size_t) const override {
    for (std::string& token : tokens) {
      std::string_view rest = token;
      for (int64_t i = 0; i < start_ && rest.starts_with(character_); ++i)
        rest.remove_prefix(character_.size());
      for (int64_t i = 0; i < stop_ && rest.ends_with(character_); ++i) rest.remove_suffix(character_.size());
      token = std::string(rest);
    }
  }

 private:
  std::string character_;
  int64_t start_;
  int64_t stop_;
};

class MetaspaceDecoder : public TokenDecoder {
 public:
  MetaspaceDecoder(std::string mark, bool prepends) : mark_(std::move(mark)), prepends_(prepends) {}

  void apply(std::vector<std::string>& tokens, size_t) const override {
    for (size_t i = 0; i < tokens.size(); ++i) {
      // The marks of the first token are the ones that encoding has put there.
      const std::string_view space = i == 0 && prepends_ ? "" : " ";
      std::string result;
      size_t copied = 0;
      for (size_t at = tokens[i].find(mark_); at != std::string::npos; at = tokens[i].find(mark_, copied)) {
        result.append(tokens[i], copied, at - copied).append(space);
        copied = at + mark_.size();
      }
      tokens[i] = result.append(tokens[i], copied);
    }
  }

 private:
  std::string mark_;
  bool prepends_;
};

class DecoderSequence : public TokenDecoder {
 public:
  explicit DecoderSequence(std::vector<std::unique_ptr<TokenDecoder>> steps) : steps_(std::move(steps)) {}

  void apply(std::vector<std::string>& tokens, size_t max_bytes) const override {
    for (const auto& step : steps_) step->apply(tokens, max_bytes);
  }

 private:
  std::vector<std::unique_ptr<TokenDecoder>> steps_;
};

using Made = std::unique_ptr<TokenDecoder>;

Made make_byte_level(Component& json) {
  json.boolean("add_prefix_space", true);
  json.boolean("trim_offsets", true);
  json.boolean("use_regex", true);
  return std::make_unique<ByteLevelDecoder>();
}

Made make_replace(Component& json) {
  Pattern pattern = Pattern::from_json(json.at("pattern"), json.path() + ".pattern");
  return std::make_unique<ReplaceDecoder>(std::move(pattern), json.required_string("content"));
}

Made make_byte_fallback(Component&) {
  return std::make_unique<ByteFallback>();
}
Made make_fuse(Component&) {
  return std::make_unique<Fuse>();
}

Made make_strip(Component& json) {
  std::string character;
  append_utf8(character, json.character("content"));
  const int64_t start = json.integer("start", 0);
  const int64_t stop = json.integer("stop", 0);
  if (start < 0 || stop < 0) throw Error(json.path(), "start and stop must not be negative");
  return std::make_unique<StripDecoder>(std::move(character), start, stop);
}

Made make_metaspace(Component& json) {
  std::string mark;
  append_utf8(mark, json.character("replacement"));
  const bool prepends = read_prepend_scheme(json) != PrependScheme::kNever;
  json.string("str_rep", "");
  json.boolean("split", true);
  return std::make_unique<MetaspaceDecoder>(std::move(mark), prepends);
}

Made make_sequence(Component& json) {
  std::vector<Made> steps;
  json.for_each_in("decoders", [&](const Json& step, const std::string& path) {
    if (Made made = make_decoder(step, path)) steps.push_back(std::move(made));
  });
  return std::make_unique<DecoderSequence>(std::move(steps));
}

constexpr ComponentKind<Made> kDecoders[] = {
    {"ByteLevel", make_byte_level},
    {"Replace", make_replace},
    {"ByteFallback", make_byte_fallback},
    {"Fuse", make_fuse},
    {"Strip", make_strip},
    {"Metaspace", make_metaspace},
    {"Sequence", make_sequence},
};

}  // namespace

std::optional<unsigned char> fallback_byte(std::string_view token) {
  const auto digit = [](char c) -> int {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  };
  if (token.size() != 6 || !token.starts_with("<0x") || !token.ends_with('>')) return std::nullopt;
  // Rust's number parser, which the reference uses, takes a plus sign for a digit here.
  const int high = token[3] == '+' ? 0 : digit(token[3]);
  const int low = digit(token[4]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<unsigned char>(high * 16 + low);
}

std::unique_ptr<TokenDecoder> make_decoder(const Json& json, const std::string& where) {
  return make_component<Made>(json, where, "decoder", kDecoders);
}

}  // namespace ptq
