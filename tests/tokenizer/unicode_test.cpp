// UTF-8, the byte alphabet, and the hand-written splitters against Oniguruma.
#include "tokenizer/unicode.h"

#include <gtest/gtest.h>

#include <random>

#include "ptq/base/error.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/pattern.h"
#include "tokenizer/splitters.h"

namespace ptq {
namespace {

const std::string kMark = "\uFFFD";

TEST(Utf8, EveryCodePointIsReadAsWritten) {
  for (char32_t code = 0; code <= kLastCodePoint; ++code) {
    if (code == 0xD800) code = 0xE000;
    std::string text;
    append_utf8(text, code);
    ASSERT_EQ(valid_utf8_prefix(text), text.size());
    ASSERT_EQ(utf8_length(text[0]), text.size());
    ASSERT_EQ(utf8_at(text, 0), code);
  }
}

TEST(Utf8, ValidTextIsNotReplaced) {
  EXPECT_EQ(replace_invalid_utf8("a\u00E9\u4E2D\U0001F600"), "a\u00E9\u4E2D\U0001F600");
}

TEST(Utf8, StrayContinuationIsOneMark) {
  EXPECT_EQ(replace_invalid_utf8("a\x80z"), "a" + kMark + "z");
}

TEST(Utf8, CutCharacterIsOneMark) {
  EXPECT_EQ(replace_invalid_utf8("\xF0\x9F\x98z"), kMark + "z");
  EXPECT_EQ(replace_invalid_utf8("\xE4\xB8"), kMark);
}

TEST(Utf8, OverlongFormIsAMarkForEveryByte) {
  EXPECT_EQ(replace_invalid_utf8("\xC0\xAF"), kMark + kMark);
}

TEST(Utf8, SurrogateIsAMarkForEveryByte) {
  EXPECT_EQ(replace_invalid_utf8("\xED\xA0\x80"), kMark + kMark + kMark);
}

TEST(Utf8, CodeBeyondTheLastIsAMarkForEveryByte) {
  EXPECT_EQ(replace_invalid_utf8("\xF4\x90\x80\x80"), kMark + kMark + kMark + kMark);
  EXPECT_EQ(replace_invalid_utf8("\xFF"), kMark);
}

TEST(ByteLevel, EveryByteComesBack) {
  std::string bytes;
  for (int byte = 0; byte < 256; ++byte) bytes.push_back(static_cast<char>(byte));
  std::string back;
  append_from_byte_characters(to_byte_characters(bytes), back);
  EXPECT_EQ(back, bytes);
}

TEST(ByteLevel, SpaceIsGWithDot) {
  EXPECT_EQ(to_byte_characters(" a\n"), "\u0120a\u010A");
}

TEST(ByteLevel, TokenWithAForeignCharacterStandsForItself) {
  std::string bytes;
  append_from_byte_characters("\u0120 ", bytes);
  EXPECT_EQ(bytes, "\u0120 ");
}

// Texts over the characters that the expressions tell apart, and any others.
std::string random_text(std::mt19937& random) {
  static const std::u32string kTelling =
      U" \t\r\n\u0085\u00A0\u2028'sStTmMdDrReEvVlL\u017F\u212Aax1\u00BD\u0663.,"
      U"\u200D\u180E\U0001F600\U0001D400";
  std::string text;
  for (size_t length = random() % 24; length > 0; --length) {
    char32_t code = kTelling[random() % kTelling.size()];
    if (random() % 8 == 0) code = static_cast<char32_t>(random() % 0x3000);
    append_utf8(text, code);
  }
  return text;
}

class Splitters : public testing::TestWithParam<std::string_view> {};

TEST_P(Splitters, AgreeWithOniguruma) {
  const std::string expression(GetParam());
  ASSERT_NE(find_splitter(expression), nullptr);
  const Pattern fast = Pattern::regex(expression, "fast");
  const Pattern slow = Pattern::regex(expression, "slow", /*use_splitter=*/false);
  std::mt19937 random(7);
  for (int i = 0; i < 20'000; ++i) {
    const std::string text = random_text(random);
    ASSERT_EQ(fast.find_all(text), slow.find_all(text)) << text;
  }
}

TEST_P(Splitters, AgreeWithOnigurumaOnEveryCodePoint) {
  const Pattern fast = Pattern::regex(std::string(GetParam()), "fast");
  const Pattern slow = Pattern::regex(std::string(GetParam()), "slow", /*use_splitter=*/false);
  std::string text;
  for (char32_t code = 0; code <= kLastCodePoint; ++code) {
    if (code == 0xD800) code = 0xE000;
    text += "a ";
    append_utf8(text, code);
    if (code % 4096 != 4095) continue;
    ASSERT_EQ(fast.find_all(text), slow.find_all(text))
        << "before U+" << std::hex << static_cast<uint32_t>(code);
    text.clear();
  }
}

INSTANTIATE_TEST_SUITE_P(Known, Splitters,
                         testing::Values(kGpt2Expression, kLlama3Expression, kQwen2Expression));

TEST(Pattern, EmptyMatchAfterAMatchIsSkipped) {
  const Pattern pattern = Pattern::regex("a*", "here");
  EXPECT_EQ(pattern.find_all("baac"), (std::vector<Span>{{0, 0}, {1, 3}, {4, 4}}));
}

TEST(Pattern, ExpressionThatDoesNotCompileIsAnErrorThatNamesThePlace) {
  try {
    Pattern::regex("a(", "here");
    FAIL();
  } catch (const Error& error) {
    EXPECT_TRUE(
        std::string(error.what()).starts_with("here: the regular expression \"a(\" does not compile"));
  }
}

TEST(Pattern, ExpressionThatRunsAwayIsAnError) {
  const Pattern pattern = Pattern::regex("(a|aa)*(?!a)\\d", "here");
  EXPECT_THROW(pattern.find_all(std::string(200, 'a')), Error);
}

TEST(Pattern, OverlongExpressionIsAnError) {
  EXPECT_THROW(Pattern::regex(std::string(5000, 'a'), "here"), Error);
}

// \K in a look-behind moves the start of a match into the one before.
TEST(Pattern, MatchesThatOverlapAreAnError) {
  const Pattern pattern = Pattern::regex("(?<=a\\K..)", "here");
  EXPECT_THROW(pattern.find_all("aabcd"), Error);
}

}  // namespace
}  // namespace ptq
