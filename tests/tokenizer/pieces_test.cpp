// Normalizers, pre-tokenizers and decoders, one at a time. What is expected is what the reference library
// gives.
#include "tiny.h"
#include "tokenizer/decoder.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/pre_tokenizer.h"

namespace ptq::tiny {
namespace {

std::string normalized(const Json& json, const std::string& text) {
  NormalizedText value{text, true, growth_limit(text.size())};
  make_normalizer(json, "normalizer")->apply(value);
  return value.text;
}

Strings pieces(const Json& json, const std::string& text) {
  const PreTokenizerChain chain = make_pre_tokenizers(json, "pre_tokenizer");
  std::vector<Piece> parts{{text, true}};
  PieceStore store;
  for (const auto& step : chain.steps) step->apply(parts, store);
  Strings texts;
  for (const Piece& part : parts) texts.emplace_back(part.text);
  return texts;
}

std::string decoded(const Json& json, Strings tokens) {
  make_decoder(json, "decoder")->apply(tokens, 1 << 20);
  std::string text;
  for (const std::string& token : tokens) text += token;
  return text;
}

Json split(const Json& pattern, const std::string& behavior, bool invert = false) {
  return {{"type", "Split"}, {"pattern", pattern}, {"behavior", behavior}, {"invert", invert}};
}

const Json kDash = {{"String", "-"}};

TEST(PreTokenizer, PunctuationIsCutCharacterByCharacter) {
  const auto cut = [](const char* behavior) {
    return pieces({{"type", "Punctuation"}, {"behavior", behavior}}, "a.!b \u2014a");
  };
  EXPECT_EQ(cut("Isolated"), (Strings{"a", ".", "!", "b ", "\u2014", "a"}));
  EXPECT_EQ(cut("Removed"), (Strings{"a", "b ", "a"}));
  EXPECT_EQ(cut("MergedWithPrevious"), (Strings{"a.", "!", "b \u2014", "a"}));
  EXPECT_EQ(cut("MergedWithNext"), (Strings{"a", ".", "!b ", "\u2014a"}));
  EXPECT_EQ(cut("Contiguous"), (Strings{"a", ".!", "b ", "\u2014", "a"}));
  EXPECT_EQ(pieces({{"type", "Punctuation"}}, "a.b"), (Strings{"a", ".", "b"}));
}

TEST(PreTokenizer, PunctuationIsThatOfTheReferencesTables) {
  EXPECT_EQ(pieces({{"type", "Punctuation"}}, "a\u166Db\u061Dc"), (Strings{"a", "\u166D", "b\u061Dc"}));
}

TEST(Normalizer, NfcComposesAcrossAsciiAndStableCharacters) {
  const Json nfc = {{"type", "NFC"}};
  EXPECT_EQ(normalized(nfc, "cafe\u0301 A\u030A!"), "caf\u00E9 \u00C5!");
  EXPECT_EQ(normalized(nfc, "\u00E2\u0301"), "\u1EA5");
  EXPECT_EQ(normalized(nfc, "\u1112\u1161\u11AB"), "\uD55C");
  EXPECT_EQ(normalized(nfc, "\uFB01"), "\uFB01");
}

TEST(Normalizer, OtherFormsDecomposeOrFold) {
  EXPECT_EQ(normalized({{"type", "NFD"}}, "x\u00E9x"), "xe\u0301x");
  EXPECT_EQ(normalized({{"type", "NFKC"}}, "\uFB01e\u0301"), "fi\u00E9");
  EXPECT_EQ(normalized({{"type", "NFKD"}}, "\u00BD\u00E9"), "1\u20442e\u0301");
}

TEST(Normalizer, CharactersSinceUnicode10StayWhereTheyAre) {
  EXPECT_EQ(normalized({{"type", "NFD"}}, "\u0301\u08D3"), "\u0301\u08D3");  // a mark below goes first
  EXPECT_EQ(normalized({{"type", "NFKC"}}, "\u32FF"), "\u32FF");
}

TEST(Normalizer, NulIsTextLikeAnyOther) {
  EXPECT_EQ(normalized({{"type", "NFC"}}, std::string("e\u0301\0e\u0301", 7)),
            std::string("\u00E9\0\u00E9", 5));
}

TEST(Normalizer, LowercaseOfDottedCapitalIIsTwoCharacters) {
  EXPECT_EQ(normalized({{"type", "Lowercase"}}, "A\u00C9\u0130\u03A3"), "a\u00E9i\u0307\u03C3");
}

TEST(Normalizer, StripTakesTheSidesAskedFor) {
  const auto strip = [](bool left, bool right) {
    return Json{{"type", "Strip"}, {"strip_left", left}, {"strip_right", right}};
  };
  EXPECT_EQ(normalized(strip(true, false), " \u00A0a b\n"), "a b\n");
  EXPECT_EQ(normalized(strip(false, true), " a b\u2028\n"), " a b");
  EXPECT_EQ(normalized(strip(true, true), " \n"), "");
}

TEST(Normalizer, ReplaceTakesStringsAndExpressions) {
  EXPECT_EQ(normalized({{"type", "Replace"}, {"pattern", {{"String", "a."}}}, {"content", "$0"}}, "a.ab"),
            "$0ab");
  EXPECT_EQ(normalized({{"type", "Replace"}, {"pattern", {{"Regex", " {2,}"}}}, {"content", "_"}}, "a   b c"),
            "a_b c");
}

TEST(Normalizer, PrependLeavesEmptyTextAlone) {
  const Json prepend = {{"type", "Prepend"}, {"prepend", "_"}};
  EXPECT_EQ(normalized(prepend, "a"), "_a");
  EXPECT_EQ(normalized(prepend, ""), "");
}

TEST(Normalizer, ReplacementsThatMultiplyTheTextAreAnError) {
  const Json replace = {
      {"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", std::string(100, 'a')}};
  const Json sequence = {{"type", "Sequence"}, {"normalizers", {replace, replace, replace, replace}}};
  EXPECT_THROW(normalized(sequence, "a"), Error);
}

TEST(Split, EveryBehavior) {
  EXPECT_EQ(pieces(split(kDash, "Removed"), "-a--b-"), (Strings{"a", "b"}));
  EXPECT_EQ(pieces(split(kDash, "Isolated"), "-a--b-"), (Strings{"-", "a", "-", "-", "b", "-"}));
  EXPECT_EQ(pieces(split(kDash, "MergedWithPrevious"), "-a--b-"), (Strings{"-", "a-", "-", "b-"}));
  EXPECT_EQ(pieces(split(kDash, "MergedWithNext"), "-a--b-"), (Strings{"-a", "-", "-b", "-"}));
  EXPECT_EQ(pieces(split(kDash, "Contiguous"), "-a--b-"), (Strings{"-", "a", "--", "b", "-"}));
}

TEST(Split, InvertedMatchesWhatLiesBetween) {
  EXPECT_EQ(pieces(split(kDash, "Removed", true), "-a--b"), (Strings{"-", "-", "-"}));
}

TEST(Split, UnknownBehaviorIsAnError) {
  EXPECT_THROW(pieces(split(kDash, "Shuffled"), ""), Error);
}

TEST(Digits, SplitsNumbersOfAllScripts) {
  EXPECT_EQ(pieces({{"type", "Digits"}, {"individual_digits", true}}, "a12\u0663b"),
            (Strings{"a", "1", "2", "\u0663", "b"}));
  EXPECT_EQ(pieces({{"type", "Digits"}, {"individual_digits", false}}, "a12b3"),
            (Strings{"a", "12", "b", "3"}));
}

TEST(ByteLevel, SplitsAsGpt2Does) {
  EXPECT_EQ(pieces({{"type", "ByteLevel"}, {"add_prefix_space", true}}, "I've 12  x"),
            (Strings{" I", "'ve", " 12", " ", " x"}));
}

TEST(ByteLevel, InFrontOfAnotherStepWritesCharacters) {
  const Json sequence = {{"type", "Sequence"},
                         {"pretokenizers",
                          {{{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}},
                           split({{"String", "\u0120"}}, "Removed")}}};
  EXPECT_EQ(pieces(sequence, "a b"), (Strings{"a", "b"}));
}

Json metaspace(const std::string& scheme) {
  return {{"type", "Metaspace"}, {"replacement", "_"}, {"prepend_scheme", scheme}, {"split", true}};
}

TEST(Metaspace, SplitsInFrontOfItsMark) {
  EXPECT_EQ(pieces(metaspace("always"), "a b  c"), (Strings{"_a", "_b", "_", "_c"}));
  EXPECT_EQ(pieces(metaspace("never"), "a b"), (Strings{"a", "_b"}));
}

TEST(Metaspace, SchemeFirstMarksTheStartOfTheInputOnly) {
  const Json sequence = {{"type", "Sequence"},
                         {"pretokenizers", {split(kDash, "Isolated"), metaspace("first")}}};
  EXPECT_EQ(pieces(sequence, "a-b"), (Strings{"_a", "-", "b"}));
}

TEST(Metaspace, PrefixSpaceThatContradictsTheSchemeIsAnError) {
  Json json = metaspace("first");
  json["add_prefix_space"] = false;
  EXPECT_THROW(pieces(json, ""), Error);
}

TEST(Decoder, ByteLevelJoinsBytesBeforeItReadsThem) {
  EXPECT_EQ(decoded({{"type", "ByteLevel"}}, {"\u0120\u00C3", "\u00A9", "\u00C3"}), " \u00E9\uFFFD");
}

TEST(Decoder, ByteFallbackMarksEveryByteOfABrokenRun) {
  const Json fallback = {{"type", "ByteFallback"}};
  EXPECT_EQ(decoded(fallback, {"<0xC3>", "<0xA9>", "a"}), "\u00E9a");
  EXPECT_EQ(decoded(fallback, {"<0xE4>", "<0xB8>", "a"}), "\uFFFD\uFFFDa");
  EXPECT_EQ(decoded(fallback, {"<0xGG>"}), "<0xGG>");
}

TEST(Decoder, SentencePieceSequenceTakesOffThePrefix) {
  const Json sequence = {{"type", "Sequence"},
                         {"decoders",
                          {{{"type", "Replace"}, {"pattern", {{"String", "\u2581"}}}, {"content", " "}},
                           {{"type", "ByteFallback"}},
                           {{"type", "Fuse"}},
                           {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}};
  EXPECT_EQ(decoded(sequence, {"\u2581\u2581a", "<0x0A>", "\u2581b"}), " a\n b");
}

TEST(Decoder, StripOfMoreThanThereIsLeavesNothing) {
  EXPECT_EQ(decoded({{"type", "Strip"}, {"content", "a"}, {"start", 2}, {"stop", 2}}, {"aaa", "aba", ""}),
            "b");
}

TEST(Decoder, MetaspaceDropsTheMarksOfTheFirstToken) {
  EXPECT_EQ(decoded({{"type", "Metaspace"}, {"replacement", "_"}}, {"_a", "_b_c"}), "a b c");
  EXPECT_EQ(decoded(metaspace("never"), {"_a", "_b"}), " a b");
}

}  // namespace
}  // namespace ptq::tiny
