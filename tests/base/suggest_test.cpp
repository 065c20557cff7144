#include "ptq/base/suggest.h"

#include <gtest/gtest.h>

namespace ptq {
namespace {

const std::vector<std::string> kMethods = {"quamba", "duquant", "qera", "rtn"};

TEST(Suggest, NearNameIsSuggested) {
  EXPECT_EQ(suggest("quanba", kMethods), "did you mean \"quamba\"?");
  EXPECT_EQ(suggest("rnt", kMethods), "did you mean \"rtn\"?");
}

TEST(Suggest, NameThatBeginsLikeItIsSuggested) {
  const std::vector<std::string> options = {"--calib", "--tokenizer", "--token-dtype", "--output"};
  EXPECT_EQ(suggest("--calibration", options), "did you mean \"--calib\"?");
  EXPECT_EQ(suggest("--out", options), "did you mean \"--output\"?");
  EXPECT_EQ(suggest("--token", options), "did you mean \"--tokenizer\"?");
  EXPECT_EQ(suggest("--to", {"--tokenizer"}), "one of: --tokenizer");
}

TEST(Suggest, MisspelledNameWinsOverOneThatBeginsLikeIt) {
  EXPECT_EQ(suggest("--calip", {"--cal", "--calib"}), "did you mean \"--calib\"?");
}

TEST(Suggest, TwoOfThreeLettersMakeAnotherName) {
  EXPECT_EQ(suggest("--out", {"--set", "--output"}), "did you mean \"--output\"?");
  EXPECT_EQ(suggest("tcsh", {"bash", "zsh"}), "one of: bash, zsh");
  EXPECT_EQ(suggest("-x", {"-h"}), "one of: -h");
}

TEST(Suggest, FarNameListsAll) {
  EXPECT_EQ(suggest("awq-marlin", kMethods), "one of: quamba, duquant, qera, rtn");
}

TEST(Suggest, VeryLongNameListsAll) {
  EXPECT_EQ(suggest(std::string(1'000'000, 'q'), kMethods), "one of: quamba, duquant, qera, rtn");
}

TEST(Suggest, NoCandidatesGiveAnEmptyList) {
  EXPECT_EQ(suggest("x", {}), "one of: ");
}

}  // namespace
}  // namespace ptq
