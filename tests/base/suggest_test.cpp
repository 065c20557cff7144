#include "ptq/base/suggest.h"

#include <gtest/gtest.h>

namespace ptq {
namespace {

const std::vector<std::string> kMethods = {"quamba", "duquant", "qera", "rtn"};

TEST(Suggest, NearNameIsSuggested) {
  EXPECT_EQ(suggest("quanba", kMethods), "did you mean \"quamba\"?");
  EXPECT_EQ(suggest("rnt", kMethods), "did you mean \"rtn\"?");
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
