// Tokens of the beginning of a text: the same as those of the whole, and no more read than needed.
#include "tokenizer/text_cuts.h"

#include <random>

#include "tiny.h"
#include "tokenizer/bpe.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/splitters.h"

namespace ptq::tiny {
namespace {

// The first `count` ids of `text`, given in parts of `part_bytes`; what was read of it goes to `read_bytes`.
Ids encode_first(const Tokenizer& tokenizer, const std::string& text, size_t count, size_t part_bytes,
                 size_t* read_bytes = nullptr) {
  size_t at = 0;
  const auto read = [&](std::string& out) {
    if (at == text.size()) return false;
    const size_t end = std::min(at + part_bytes, text.size());
    out.append(text, at, end - at);
    at = end;
    return true;
  };
  Ids ids = tokenizer.encode_first(read, count, true);
  if (read_bytes != nullptr) *read_bytes = at;
  return ids;
}

// A text of about `size` bytes that has every kind of character around spaces and ends of lines.
std::string mixed_text(size_t size) {
  const Strings words = {"the",         "of",
                         "a",           "I",
                         "Zoo",         "\u00E9t\u00E9",
                         "x86",         "1999",
                         "it's",        "don'T",
                         "(",           ")",
                         ".",           ",",
                         "--",          "\u6F22\u5B57",
                         "\u3042",      "\u304C\u3002",
                         "<s>",         "</s>",
                         "<|x|>",       "e\u0301",
                         "\u2581",      "a\u0308\u0323",
                         "\u00A0",      "_",
                         "\t",          "0",
                         "aaaa",        "\U0001F600",
                         "s",           "'s",
                         "\u1100\u1161"};
  const Strings gaps = {" ",    " ", " ", " ",    " ",   "  ",  "\n",  "\n",
                        "\n\n", "",  "",  "\r\n", " \n", "\n ", ".\n", "   "};
  std::mt19937 random(7);
  std::string text;
  while (text.size() < size) text += words[random() % words.size()] + gaps[random() % gaps.size()];
  return text;
}

// Parts of 64 KiB are what is cut; a text of several shows whether cuts change anything.
void expect_same_as_whole(const Json& json, bool cuts_expected = true) {
  const std::unique_ptr<Tokenizer> tokenizer = load(json);
  const std::string text = mixed_text(size_t{260} << 10);
  const Ids whole = tokenizer->encode(text, true);
  EXPECT_EQ(encode_first(*tokenizer, text, SIZE_MAX, 4097), whole);
  for (const size_t count : {size_t{1}, size_t{100}, whole.size() / 2}) {
    size_t read_bytes = 0;
    EXPECT_EQ(encode_first(*tokenizer, text, count, 1000, &read_bytes),
              Ids(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(count)));
    if (cuts_expected) {
      EXPECT_LT(read_bytes, text.size());
    }
  }
  EXPECT_EQ(encode_first(*tokenizer, "", SIZE_MAX, 10), tokenizer->encode("", true));
  EXPECT_EQ(encode_first(*tokenizer, "a b", 0, 10), Ids{});
}

// All bytes, and some merges that reach over spaces of every form.
Json byte_level() {
  Strings tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.push_back(byte_character(static_cast<unsigned char>(byte)));
  Strings merges;
  for (const auto& [left, right] : std::vector<std::pair<std::string, std::string>>{{"\u0120", "t"},
                                                                                    {"h", "e"},
                                                                                    {"\u0120t", "he"},
                                                                                    {"a", "a"},
                                                                                    {"aa", "aa"},
                                                                                    {"\u0120", "\u0120"},
                                                                                    {"\u010A", "\u010A"},
                                                                                    {"o", "f"}}) {
    tokens.push_back(left + right);
    merges.push_back(left + " " + right);
  }
  Json json = document(bpe(tokens, merges));
  json["normalizer"] = {{"type", "NFC"}};
  json["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};
  json["added_tokens"] = {added(264, "<|x|>")};
  return json;
}

TEST(TextCuts, ByteLevelTextIsCutWithoutAChange) {
  expect_same_as_whole(byte_level());
  Json prefixed = byte_level();
  prefixed["pre_tokenizer"]["add_prefix_space"] = true;
  expect_same_as_whole(prefixed);
}

TEST(TextCuts, SplitExpressionsAreCutWithoutAChange) {
  for (const std::string_view expression : {kLlama3Expression, kQwen2Expression}) {
    Json json = byte_level();
    const Json split = {
        {"type", "Split"}, {"pattern", {{"Regex", expression}}}, {"behavior", "Isolated"}, {"invert", false}};
    const Json bytes = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
    json["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {split, bytes}}};
    expect_same_as_whole(json);
  }
}

TEST(TextCuts, DigitsAndPunctuationAreCutWithoutAChange) {
  Json json = byte_level();
  const Json bytes = json["pre_tokenizer"];
  for (const char* behavior : {"Isolated", "Contiguous", "MergedWithPrevious", "MergedWithNext", "Removed"}) {
    json["pre_tokenizer"] = {{"type", "Sequence"},
                             {"pretokenizers",
                              {{{"type", "Punctuation"}, {"behavior", behavior}},
                               {{"type", "Digits"}, {"individual_digits", true}},
                               bytes}}};
    expect_same_as_whole(json);
  }
}

// As Llama 2: one word for the whole text, merged across all of it.
Json sentencepiece_like() {
  Strings tokens = {"<unk>", "<s>", "</s>"};
  for (int byte = 0; byte < 256; ++byte)
    tokens.push_back(byte_fallback_name(static_cast<unsigned char>(byte)));
  Strings merges;
  for (const char* c : {"\u2581", "a", "e", "f", "h", "o", "t", "s", "Z", "I", ".", "1", "9", "x"})
    tokens.emplace_back(c);
  for (const auto& [left, right] : std::vector<std::pair<std::string, std::string>>{{"\u2581", "t"},
                                                                                    {"h", "e"},
                                                                                    {"\u2581t", "he"},
                                                                                    {"a", "a"},
                                                                                    {"aa", "aa"},
                                                                                    {"\u2581", "\u2581"},
                                                                                    {"o", "f"},
                                                                                    {"9", "9"},
                                                                                    {"\u2581", "of"}}) {
    tokens.push_back(left + right);
    merges.push_back(left + " " + right);
  }
  Json model = bpe(tokens, merges);
  model["byte_fallback"] = true;
  model["fuse_unk"] = true;
  model["unk_token"] = "<unk>";
  Json json = document(model);
  json["normalizer"] = {{"type", "Sequence"},
                        {"normalizers",
                         {{{"type", "Prepend"}, {"prepend", "\u2581"}},
                          {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}}}}};
  json["added_tokens"] = {added(1, "<s>"), added(2, "</s>")};
  return json;
}

TEST(TextCuts, TextThatIsOneWordIsCutWhereNoTokenReachesAcross) {
  expect_same_as_whole(sentencepiece_like());
}

TEST(TextCuts, MetaspaceIsCutWithoutAChange) {
  for (const char* scheme : {"always", "first", "never"}) {
    for (const bool split : {true, false}) {
      Json json = sentencepiece_like();
      json.erase("normalizer");
      json["pre_tokenizer"] = {
          {"type", "Metaspace"}, {"replacement", "\u2581"}, {"prepend_scheme", scheme}, {"split", split}};
      expect_same_as_whole(json);
    }
  }
}

TEST(TextCuts, StripIsForTheEndsOfTheText) {
  Json json = byte_level();
  json["normalizer"] = {{"type", "Strip"}, {"strip_left", true}, {"strip_right", true}};
  expect_same_as_whole(json);
}

TEST(TextCuts, TokensThatReachAcrossAreNotCutThrough) {
  // "e" and "f" with what follows them are tokens; then so are "e" and "f" in capitals after lower-casing.
  Json json = sentencepiece_like();
  Json& vocab = json["model"]["vocab"];
  const size_t next = vocab.size();
  vocab["e\u2581"] = next;
  vocab["\u2581of\u2581"] = next + 1;
  json["model"]["merges"].insert(json["model"]["merges"].begin(), "e \u2581");
  json["model"]["merges"].push_back("\u2581of \u2581");
  expect_same_as_whole(json);
}

TEST(TextCuts, AddedTokensThatReachAcrossAreNotCutThrough) {
  for (const char* content : {"the of", "of ", " a", ".\nthe", "the", "a\n"}) {
    for (const char* flag : {"", "lstrip", "rstrip", "single_word", "normalized"}) {
      Json json = byte_level();
      Json token = added(265, content);
      if (*flag != '\0') token[flag] = true;
      json["added_tokens"].push_back(token);
      expect_same_as_whole(json, false);
    }
  }
}

TEST(TextCuts, UnknownExpressionIsNotCut) {
  Json json = byte_level();
  const Json split = {{"type", "Split"},
                      {"pattern", {{"Regex", "(?<=e) |\\s+$|[^ ]+ ?"}}},
                      {"behavior", "Isolated"},
                      {"invert", false}};
  json["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {split, json["pre_tokenizer"]}}};
  expect_same_as_whole(json, false);
}

TEST(TextCuts, LongTextWithoutAPlaceIsAnError) {
  const std::unique_ptr<Tokenizer> tokenizer = load(byte_level());
  size_t given = 0;
  const auto endless = [&](std::string& text) {
    text.append(size_t{8} << 20, '-');
    given += size_t{8} << 20;
    return true;
  };
  EXPECT_THROW(tokenizer->encode_first(endless, 10, false), Error);
  EXPECT_LE(given, size_t{256} << 20);
}

}  // namespace
}  // namespace ptq::tiny
