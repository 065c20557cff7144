// tokenizer.json as a whole: added tokens, templates, decoding, and files that are not what they seem.
#include <filesystem>
#include <fstream>
#include <thread>

#include "tiny.h"

namespace ptq::tiny {
namespace {

Json with_added(std::vector<Json> tokens) {
  Json json = document(bpe({"a", "b", " "}));
  json["added_tokens"] = std::move(tokens);
  return json;
}

Json changed(Json token, const std::string& field, bool value) {
  token[field] = value;
  return token;
}

TEST(AddedTokens, LongestLeftmostWins) {
  const Json json = with_added({added(3, "<x"), added(4, "<x>"), added(5, "a<")});
  EXPECT_EQ(encode(json, "b<x>"), (Ids{1, 4}));
  EXPECT_EQ(encode(json, "<x"), (Ids{3}));
  EXPECT_EQ(encode(json, "a<x>"), (Ids{5}));
}

TEST(AddedTokens, TokenOfTheVocabularyKeepsItsId) {
  EXPECT_EQ(encode(with_added({added(1, "b")}), "ab"), (Ids{0, 1}));
}

TEST(AddedTokens, StripTakesWhiteSpaceAlong) {
  const Json left = with_added({changed(added(3, "X"), "lstrip", true)});
  EXPECT_EQ(encode(left, "a  X a"), (Ids{0, 3, 2, 0}));
  const Json right = with_added({changed(added(3, "X"), "rstrip", true)});
  EXPECT_EQ(encode(right, "a X \n a"), (Ids{0, 2, 3, 0}));
}

TEST(AddedTokens, TokenWhoseTextIsTakenByTheOneBeforeIsDropped) {
  const Json json = with_added({changed(changed(added(3, "\n"), "rstrip", true), "lstrip", true)});
  EXPECT_EQ(encode(json, "a\n \n b"), (Ids{0, 3, 1}));
}

TEST(AddedTokens, SingleWordDoesNotMatchInsideAWord) {
  const Json json = with_added({changed(added(3, "b"), "single_word", true)});
  Json tokens = json;
  tokens["added_tokens"][0]["id"] = 1;
  EXPECT_EQ(encode(tokens, "b ab"), (Ids{1, 2, 0, 1}));
  const Json other = with_added({changed(added(3, "ab"), "single_word", true)});
  EXPECT_EQ(encode(other, "ab aab"), (Ids{3, 2, 0, 0, 1}));
}

TEST(AddedTokens, NormalizedOneIsFoundInNormalizedText) {
  Json json = with_added({changed(added(3, "AB"), "normalized", true), added(4, "Q")});
  json["normalizer"] = {{"type", "Lowercase"}};
  EXPECT_EQ(encode(json, "abaBQ"), (Ids{3, 3, 4}));
  EXPECT_EQ(encode(json, "q"), Ids{});
}

TEST(AddedTokens, IdThatIsNotTheVocabularysIsAnError) {
  expect_error(with_added({added(0, "b")}), "in the vocabulary it is 1");
}

TEST(AddedTokens, IdThatLeavesAGapIsAnError) {
  expect_error(with_added({added(9, "X")}), "the next free id is 3");
}

TEST(AddedTokens, NegativeOrHugeIdIsAnError) {
  expect_error(with_added({added(-1, "X")}), "-1 is not between");
  expect_error(with_added({added(int64_t{1} << 40, "X")}), "is not between");
}

TEST(AddedTokens, TokenThatOccursTwiceIsAnError) {
  expect_error(with_added({added(1, "b"), added(1, "b")}), "the id 1 occurs twice");
}

TEST(PostProcessor, BertAndRobertaPutATokenAtEachEnd) {
  Json json = document(bpe({"a", "b", "c"}));
  json["post_processor"] = {
      {"type", "BertProcessing"}, {"sep", Json::array({"c", 2})}, {"cls", Json::array({"b", 1})}};
  EXPECT_EQ(load(json)->encode("ab", true), (Ids{1, 0, 1, 2}));
  EXPECT_EQ(load(json)->encode("ab", false), (Ids{0, 1}));
  json["post_processor"]["type"] = "RobertaProcessing";
  json["post_processor"]["trim_offsets"] = true;
  json["post_processor"]["add_prefix_space"] = true;
  EXPECT_EQ(load(json)->encode("ab", true), (Ids{1, 0, 1, 2}));
  json["post_processor"]["cls"] = "b";
  expect_error(json, "post_processor.cls: expected [token, id]");
}

TEST(AddedTokens, EmptyContentIsAnError) {
  expect_error(with_added({added(3, "")}), "added_tokens[0].content");
}

TEST(AddedTokens, ContentThatNormalizesToNothingIsNeverFound) {
  Json json = with_added({changed(added(2, " "), "normalized", true)});
  json["normalizer"] = {{"type", "Strip"}, {"strip_left", true}, {"strip_right", true}};
  EXPECT_EQ(encode(json, " a b "), (Ids{0, 2, 1}));
}

TEST(AddedTokens, NormalizedOneDecodesToItsNormalizedForm) {
  Json json = with_added({changed(added(3, "X"), "normalized", true)});
  json["normalizer"] = {{"type", "Prepend"}, {"prepend", "_"}};
  json["decoder"] = {{"type", "Fuse"}};
  EXPECT_EQ(load(json)->decode({0, 3}), "a_X");
  EXPECT_EQ(load(json)->decode({0, 3}, true), "a");
}

Json with_template(const Json& single) {
  Json json = with_added({added(3, "<s>"), added(4, "</s>")});
  const auto special = [](const std::string& name, int64_t id) {
    return Json{{"id", name}, {"ids", {id}}, {"tokens", {name}}};
  };
  json["post_processor"] = {{"type", "TemplateProcessing"},
                            {"single", single},
                            {"pair", Json::array()},
                            {"special_tokens", {{"<s>", special("<s>", 3)}, {"</s>", special("</s>", 4)}}}};
  return json;
}

Json special_piece(const std::string& name) {
  return {{"SpecialToken", {{"id", name}, {"type_id", 0}}}};
}
const Json kText = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};

TEST(Template, PutsSpecialTokensAroundTheText) {
  const auto tokenizer = load(with_template({special_piece("<s>"), kText, special_piece("</s>")}));
  EXPECT_EQ(tokenizer->encode("ab", true), (Ids{3, 0, 1, 4}));
  EXPECT_EQ(tokenizer->encode("ab", false), (Ids{0, 1}));
  EXPECT_EQ(tokenizer->encode("", true), (Ids{3, 4}));
}

TEST(Template, InASequenceLaterOnesStandFurtherOut) {
  Json json = with_template({special_piece("<s>"), kText});
  const Json first = json["post_processor"];
  Json second = first;
  second["single"] = {special_piece("</s>"), kText};
  json["post_processor"] = {{"type", "Sequence"}, {"processors", {{{"type", "ByteLevel"}}, first, second}}};
  EXPECT_EQ(load(json)->encode("a", true), (Ids{4, 3, 0}));
}

TEST(Template, WithoutPlaceForTheTextIsAnError) {
  expect_error(with_template(Json::array({special_piece("<s>")})), "has no place for the text");
  expect_error(with_template({kText, kText}), "the sequence A once");
}

TEST(Template, UndeclaredTokenIsAnError) {
  expect_error(with_template({kText, special_piece("<x>")}), "\"<x>\"");
}

TEST(Template, IdThatIsNoTokenIsAnError) {
  for (const int64_t id : {int64_t{-1}, int64_t{5}, INT64_MAX}) {
    Json json = with_template({special_piece("<s>"), kText});
    json["post_processor"]["special_tokens"]["<s>"]["ids"][0] = id;
    expect_error(json, "is not a token");
  }
}

TEST(Tokenizer, VocabularySizeCountsAddedTokensAndHoles) {
  EXPECT_EQ(load(with_added({added(3, "<s>")}))->vocab_size(), 4);
  Json json = document(bpe({"a"}));
  json["model"]["vocab"]["a"] = 7;
  EXPECT_EQ(load(json)->vocab_size(), 8);
}

TEST(Tokenizer, InvalidBytesAreEncodedAsReplacementCharacters) {
  Json json = document(bpe({"a", "\uFFFD"}));
  EXPECT_EQ(encode(json, "a\xFF\xF0\x9F"), (Ids{0, 1, 1}));
}

TEST(Tokenizer, DecodingSkipsUnknownIdsAndSpecialTokensIfAsked) {
  Json json = with_added({added(3, "<s>")});
  json["decoder"] = {{"type", "Fuse"}};
  const auto tokenizer = load(json);
  EXPECT_EQ(tokenizer->decode({3, 0, -1, 99, INT64_MAX, 1}), "<s>ab");
  EXPECT_EQ(tokenizer->decode({3, 0, 1}, true), "ab");
}

TEST(Tokenizer, WithoutDecoderTokensAreJoinedWithSpaces) {
  EXPECT_EQ(load(document(bpe({"a", "b"})))->decode({0, 1}), "a b");
}

// Byte fallback, a mark for the space, a prefix: how SentencePiece models are written.
TEST(Tokenizer, SentencePieceStyleRoundTrips) {
  const std::string mark = "\u2581";
  Strings tokens = {"<unk>", mark, "h", "i", mark + "h", mark + "hi"};
  for (const char* byte : {"<0x0A>", "<0xC3>", "<0xA9>"}) tokens.emplace_back(byte);
  Json json = document(bpe(tokens, {mark + " h", mark + "h i"}));
  json["model"]["unk_token"] = "<unk>";
  json["model"]["byte_fallback"] = true;
  json["normalizer"] = {{"type", "Sequence"},
                        {"normalizers",
                         {{{"type", "Prepend"}, {"prepend", mark}},
                          {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", mark}}}}};
  json["decoder"] = {{"type", "Sequence"},
                     {"decoders",
                      {{{"type", "Replace"}, {"pattern", {{"String", mark}}}, {"content", " "}},
                       {{"type", "ByteFallback"}},
                       {{"type", "Fuse"}},
                       {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}};
  const auto tokenizer = load(json);
  const Ids ids = tokenizer->encode("hi hi\n\u00E9", false);
  EXPECT_EQ(ids, (Ids{5, 5, 6, 7, 8}));
  EXPECT_EQ(tokenizer->decode(ids), "hi hi\n\u00E9");
}

TEST(Tokenizer, ThreadsShareOneTokenizer) {
  const auto tokenizer = load(document(bpe({"a", "b", "ab"}, {"a b"})));
  const std::string text(1000, 'a');
  const Ids expected = tokenizer->encode(text + "b", false);
  std::vector<std::thread> threads;
  std::vector<Ids> results(4);
  for (Ids& result : results) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) result = tokenizer->encode(text + "b", false);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Ids& result : results) EXPECT_EQ(result, expected);
}

TEST(Tokenizer, FileIsReadAndNamedInErrors) {
  const std::string path = testing::TempDir() + "/tokenizer_json_test.json";
  std::ofstream(path) << document(bpe({"a"})).dump();
  EXPECT_EQ(Tokenizer::from_file(path)->vocab_size(), 1);
  std::ofstream(path) << "{}";
  try {
    Tokenizer::from_file(path);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_TRUE(std::string(error.what()).starts_with(path)) << error.what();
  }
  std::filesystem::remove(path);
}

TEST(Tokenizer, UnknownComponentIsAnErrorThatNamesIt) {
  for (const char* part : {"normalizer", "pre_tokenizer", "post_processor", "decoder"}) {
    Json json = document(bpe({"a"}));
    json[part] = {{"type", "BertThing"}};
    expect_error(json, std::string("tiny: ") + part + ": unknown");
    expect_error(json, "BertThing");
  }
}

TEST(Tokenizer, UnknownComponentInsideASequenceIsAnErrorThatSaysWhere) {
  Json json = document(bpe({"a"}));
  json["normalizer"] = {{"type", "Sequence"}, {"normalizers", {{{"type", "NFC"}}, {{"type", "Nmt"}}}}};
  expect_error(json, "normalizer.normalizers[1]: unknown normalizer \"Nmt\"");
}

TEST(Tokenizer, UnknownFieldIsAnError) {
  Json json = document(bpe({"a"}));
  json["pre_tokenizer"] = {{"type", "Digits"}, {"individual_digit", true}};
  expect_error(json, "did you mean \"individual_digits\"?");
}

TEST(Tokenizer, OtherVersionIsAnError) {
  Json json = document(bpe({"a"}));
  json["version"] = "2.0";
  expect_error(json, "version \"2.0\"");
}

TEST(Tokenizer, BrokenExpressionIsAnErrorThatSaysWhere) {
  Json json = document(bpe({"a"}));
  json["pre_tokenizer"] = {{"type", "Split"}, {"pattern", {{"Regex", "["}}}, {"behavior", "Isolated"}};
  expect_error(json, "tiny: pre_tokenizer.pattern");
}

TEST(Tokenizer, MissingModelIsAnError) {
  Json json = document(bpe({"a"}));
  json.erase("model");
  expect_error(json, "\"model\" is missing");
}

}  // namespace
}  // namespace ptq::tiny
