// The tokens that end a text.
#include "ptq/engine/end_tokens.h"

#include <gtest/gtest.h>

#include "../base/expect_error.h"
#include "../base/temp_directory.h"

namespace ptq {
namespace {

using Ids = std::vector<int64_t>;

TEST(EndTokens, AreANumberOrSeveralOfTheConfiguration) {
  const TempDirectory directory;
  EXPECT_EQ(end_tokens({{"eos_token_id", 2}}, directory.path()), Ids{2});
  EXPECT_EQ(end_tokens({{"eos_token_id", {2, 7}}}, directory.path()), (Ids{2, 7}));
  EXPECT_EQ(end_tokens({{"eos_token_id", nullptr}}, directory.path()), Ids{});
  EXPECT_EQ(end_tokens({{"model_type", "llama"}}, directory.path()), Ids{});
  EXPECT_EQ(end_tokens(nullptr, directory.path()), Ids{});
}

TEST(EndTokens, ThoseOfGenerationConfigGoFirst) {
  const TempDirectory directory;
  directory.write("generation_config.json", R"({"eos_token_id": [5, 6]})");
  EXPECT_EQ(end_tokens({{"eos_token_id", 2}}, directory.path()), (Ids{5, 6}));
  directory.write("generation_config.json", R"({"eos_token_id": null})");
  EXPECT_EQ(end_tokens({{"eos_token_id", 2}}, directory.path()), Ids{2});
}

TEST(EndTokens, WhatIsNoIdIsAnErrorThatNamesTheFile) {
  const TempDirectory directory;
  EXPECT_ERROR(end_tokens({{"eos_token_id", "</s>"}}, directory.path()), ExitCode::kFailed, "config.json");
  directory.write("generation_config.json", R"({"eos_token_id": [1, 2.5]})");
  EXPECT_ERROR(end_tokens(nullptr, directory.path()), ExitCode::kFailed, "generation_config.json");
  directory.write("generation_config.json", "{");
  EXPECT_ERROR(end_tokens(nullptr, directory.path()), ExitCode::kFailed, "generation_config.json");
}

}  // namespace
}  // namespace ptq
