// Unigram: the likeliest tokens, characters that are none, and models that do not fit together. Ids are those
// of the reference library.
#include "tokenizer/unigram.h"

#include "tiny.h"

namespace ptq::tiny {
namespace {

Json unigram(bool byte_fallback) {
  Json vocab = Json::array();
  const std::vector<std::pair<std::string, double>> entries = {
      {"<unk>", 0},   {"a", -2},      {"b", -2},  {"c", -2},   {"ab", -3}, {"bc", -2.5},
      {"<0xC3>", -9}, {"<0xA9>", -9}, {"ba", -4}, {"aba", -5}, {"xy", -20}};
  for (const auto& [token, score] : entries) vocab.push_back(Json::array({token, score}));
  return {{"type", "Unigram"}, {"unk_id", 0}, {"vocab", vocab}, {"byte_fallback", byte_fallback}};
}

Ids encoded(const std::string& text, bool byte_fallback = false) {
  return encode(document(unigram(byte_fallback)), text);
}

TEST(Unigram, LikeliestTokensWin) {
  EXPECT_EQ(encoded("abc"), (Ids{1, 5}));
  EXPECT_EQ(encoded("abab"), (Ids{4, 4}));
  EXPECT_EQ(encoded("aba"), (Ids{9}));
  EXPECT_EQ(encoded("bab"), (Ids{2, 4}));
  EXPECT_EQ(encoded("ababa"), (Ids{4, 9}));
  EXPECT_EQ(encoded(""), Ids{});
}

TEST(Unigram, CharactersThatAreNoTokensBecomeOneUnknownToken) {
  EXPECT_EQ(encoded("x"), (Ids{0}));
  EXPECT_EQ(encoded("xzya"), (Ids{0, 1}));
  EXPECT_EQ(encoded("\u00E9"), (Ids{0}));
  EXPECT_EQ(encoded("xya"), (Ids{10, 1}));
}

TEST(Unigram, BytesStandInWhereAllOfThemAreTokens) {
  EXPECT_EQ(encoded("\u00E9", true), (Ids{6, 7}));
  EXPECT_EQ(encoded("\u00E9xa", true), (Ids{0, 1}));
}

TEST(Unigram, ModelThatDoesNotFitTogetherIsAnError) {
  Json json = document(unigram(false));
  json["model"]["unk_id"] = 11;
  expect_error(json, "11 is not an id of the 11 tokens");
  json["model"]["unk_id"] = 0;
  json["model"]["vocab"][3] = {"c"};
  expect_error(json, "expected [token, score]");
  json["model"]["vocab"] = Json::array();
  expect_error(json, "is empty");
}

TEST(Unigram, UnknownCharacterWithoutAnUnknownTokenIsAnError) {
  Json json = document(unigram(false));
  json["model"].erase("unk_id");
  EXPECT_EQ(encode(json, "abc"), (Ids{1, 5}));
  EXPECT_THROW(encode(json, "x"), Error);
}

}  // namespace
}  // namespace ptq::tiny
