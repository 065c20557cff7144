// Text that comes token by token, and where it ends.
#include "ptq/tokenizer/text_stream.h"

#include <gtest/gtest.h>

#include <random>

#include "ptq/tokenizer/stop_strings.h"
#include "tiny.h"
#include "tokenizer/unicode.h"

namespace ptq {
namespace {

using tiny::Ids;
using tiny::Strings;

// Decoders as the files of models have them, on tokens that are hard for each.
std::vector<Json> documents() {
  Json byte_level = tiny::document(tiny::bpe({"a", "Ġb", "â", "Ĥ", "¬", "ð", "Ł", "ĺ", "Ģ", "Ċ"}));
  byte_level["decoder"] = {{"type", "ByteLevel"}};
  Json fallback = tiny::document(
      tiny::bpe({"▁", "▁a", "b", "<0xE2>", "<0x82>", "<0xAC>", "<0x0A>", "▁▁", "c▁", "\uFFFD"}));
  const Json space = {{"type", "Replace"}, {"pattern", {{"String", "▁"}}}, {"content", " "}};
  const Json strip = {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}};
  fallback["decoder"] = {{"type", "Sequence"},
                         {"decoders", {space, {{"type", "ByteFallback"}}, {{"type", "Fuse"}}, strip}}};
  Json metaspace = tiny::document(tiny::bpe({"▁", "▁a", "b", "▁▁", "▁c▁"}));
  metaspace["decoder"] = {{"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", "always"}};
  Json spaced = tiny::document(tiny::bpe({"one", "two", "é"}));
  for (Json* json : {&byte_level, &fallback, &metaspace, &spaced})
    (*json)["added_tokens"] = {tiny::added(static_cast<int64_t>((*json)["model"]["vocab"].size()), "<end>")};
  return {byte_level, fallback, metaspace, spaced};
}

// Some are not in the vocabulary.
Ids random_ids(uint32_t seed, size_t count) {
  std::mt19937 generator(seed);
  Ids ids;
  for (size_t i = 0; i < count; ++i) ids.push_back(generator() % 12);
  return ids;
}

TEST(TextStream, PiecesAreTheTextOfAllTokensAndWholeCharacters) {
  for (const Json& document : documents()) {
    const auto tokenizer = tiny::load(document);
    size_t ended_in_bytes = 0;
    for (uint32_t seed = 0; seed < 300; ++seed) {
      const Ids ids = random_ids(seed, 1 + seed % 40);
      TextStream stream(*tokenizer);
      std::string text;
      for (const int64_t id : ids) {
        const std::string piece = stream.add(id);
        EXPECT_EQ(valid_utf8_prefix(piece), piece.size());
        text += piece;
      }
      ended_in_bytes += text.size() < tokenizer->decode(ids).size() ? 1 : 0;
      text += stream.finish();
      EXPECT_EQ(text, tokenizer->decode(ids)) << document["decoder"].dump() << " " << seed;
    }
    EXPECT_LT(ended_in_bytes, 200U);
  }
}

TEST(TextStream, ContinuesAPromptWhereItsTextEnds) {
  for (const Json& document : documents()) {
    const auto tokenizer = tiny::load(document);
    for (uint32_t seed = 0; seed < 100; ++seed) {
      Ids ids = {1};
      for (const int64_t id : random_ids(seed, 30)) ids.push_back(id);
      TextStream stream(*tokenizer);
      std::string text = stream.begin({1});
      EXPECT_EQ(text, tokenizer->decode({1}));
      for (size_t i = 1; i < ids.size(); ++i) text += stream.add(ids[i]);
      EXPECT_EQ(text + stream.finish(), tokenizer->decode(ids)) << document["decoder"].dump() << " " << seed;
    }
  }
}

TEST(TextStream, NewlineThatEndsThePromptIsNotWhatIsWritten) {
  const auto tokenizer = tiny::load(documents()[1]);
  TextStream stream(*tokenizer);
  EXPECT_EQ(stream.begin({1, 6}), "a\n");
  EXPECT_EQ(stream.add(2), "b");
}

TEST(TextStream, CharacterOfSeveralTokensComesWithTheLastOfThem) {
  const auto tokenizer = tiny::load(documents()[0]);
  TextStream stream(*tokenizer);
  EXPECT_EQ(stream.add(0), "a");
  EXPECT_EQ(stream.add(2), "");
  EXPECT_EQ(stream.add(3), "");
  EXPECT_EQ(stream.add(4), "€");
  EXPECT_EQ(stream.add(2), "");
  EXPECT_EQ(stream.finish(), "\uFFFD");
}

// The text that is shown of pieces, and what is shown of each.
std::string shown(const Strings& stops, const Strings& pieces, Strings* each = nullptr) {
  StopStrings finder(stops);
  std::string text;
  for (const std::string& piece : pieces) {
    const std::string part = finder.add(piece);
    if (each != nullptr) each->push_back(part);
    text += part;
  }
  return text + finder.finish();
}

TEST(StopStrings, StringAcrossPiecesIsNotShown) {
  Strings each;
  EXPECT_EQ(shown({"END"}, {"abE", "N", "Dcd"}, &each), "ab");
  EXPECT_EQ(each, (Strings{"ab", "", ""}));
}

TEST(StopStrings, WhatOnlyBeganLikeAStringIsShownWhenThatIsKnown) {
  Strings each;
  EXPECT_EQ(shown({"END"}, {"abE", "N", "x", "EN"}, &each), "abENxEN");
  EXPECT_EQ(each, (Strings{"ab", "", "ENx", ""}));
}

TEST(StopStrings, CutIntoPiecesMakesNoDifference) {
  const Strings stops = {"aab", "ab", "ba a", "b c"};
  std::mt19937 generator(7);
  for (int i = 0; i < 2000; ++i) {
    std::string text;
    for (size_t j = 0; j < 12; ++j) text += "aabc "[generator() % 5];
    Strings pieces(1);
    for (const char c : text) {
      if (generator() % 3 == 0) pieces.emplace_back();
      pieces.back() += c;
    }
    EXPECT_EQ(shown(stops, pieces), shown(stops, {text})) << text;
  }
}

TEST(StopStrings, FirstToBecomeCompleteEndsTheText) {
  EXPECT_EQ(shown({"abcd", "bc"}, {"xabcd"}), "xa");
  EXPECT_EQ(shown({"bc", "abc"}, {"xabcd"}), "x");
  EXPECT_EQ(shown({}, {"xabcd"}), "xabcd");
}

}  // namespace
}  // namespace ptq
