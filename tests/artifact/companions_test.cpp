#include "ptq/artifact/companions.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "../base/temp_directory.h"

namespace ptq {
namespace {

namespace fs = std::filesystem;
using Names = std::vector<std::string>;

class Companions : public ::testing::Test {
 protected:
  Names names(const std::string& tokenizer = "") {
    warnings_.clear();
    Names found;
    for (const auto& [name, path] : companion_files(temp_ / "m", tokenizer, warnings_)) found.push_back(name);
    return found;
  }
  void expect_left_out(const std::string& name, const std::string& why) {
    EXPECT_EQ(names(), Names{});
    ASSERT_EQ(warnings_.size(), 1U);
    EXPECT_TRUE(warnings_[0].starts_with(name + " is not copied: it " + why)) << warnings_[0];
  }
  const TempDirectory temp_;
  Names warnings_;
};

TEST_F(Companions, TokenizerTemplatesAndLicencesAreTakenWeightsAndOthersAreNot) {
  const Names taken = {"LICENSE",
                       "LICENSE.md",
                       "NOTICE",
                       "Notice-third-party.txt",
                       "USE_POLICY.md",
                       "added_tokens.json",
                       "additional_chat_templates/rag.jinja",
                       "chat_template.jinja",
                       "generation_config.json",
                       "merges.txt",
                       "qwen.tiktoken",
                       "special_tokens_map.json",
                       "tekken.json",
                       "tokenizer.json",
                       "tokenizer.model",
                       "tokenizer_config.json",
                       "vocab.json"};
  for (const std::string& name : taken) temp_.write("m/" + name, "x");
  for (const char* other : {"README.md", "config.json", "model.safetensors", "licensed.py", "noticeboard",
                            "additional_chat_templates/run.sh", "additional_chat_templates/deep/a.jinja",
                            "other/LICENSE", "tokenizer/vocab.json"})
    temp_.write(std::string("m/") + other, "x");
  EXPECT_EQ(names(), taken);
  EXPECT_EQ(warnings_, Names{});
}

TEST_F(Companions, TokenizerOfTheOptionStandsForTheModels) {
  temp_.write("m/tokenizer.json", "the model's");
  const std::string other = temp_.write("other.json", "another");
  EXPECT_EQ(companion_files(temp_ / "m", other, warnings_).at("tokenizer.json"), other);
}

TEST_F(Companions, LinksWithinTheFolderItsCacheOrToTheSameNameAreFollowed) {
  temp_.write("cache/blobs/0a1b", "licence");
  temp_.write("cache/snapshots/main/LICENSE-MIT", "x");
  temp_.write("elsewhere/vocab.json", "{}");
  fs::create_directory_symlink(temp_ / "cache/snapshots/main", temp_ / "m");
  fs::create_symlink("../../blobs/0a1b", temp_ / "m/LICENSE");
  fs::create_symlink("LICENSE-MIT", temp_ / "m/NOTICE");
  fs::create_symlink(temp_ / "elsewhere/vocab.json", temp_ / "m/vocab.json");
  EXPECT_EQ(names(), (Names{"LICENSE", "LICENSE-MIT", "NOTICE", "vocab.json"}));
  EXPECT_EQ(warnings_, Names{});
}

TEST_F(Companions, LinkOutOfTheFolderIsLeftOutWithAWarning) {
  temp_.write("home/id_rsa", "secret");
  fs::create_directory(temp_ / "m");
  fs::create_symlink("../home/id_rsa", temp_ / "m/LICENSE");
  expect_left_out("LICENSE", "is a link to ");
}

TEST_F(Companions, FolderOfTemplatesThatIsALinkIsNotFollowed) {
  temp_.write("home/a.jinja", "secret");
  fs::create_directory(temp_ / "m");
  fs::create_directory_symlink(temp_ / "home", temp_ / "m/additional_chat_templates");
  EXPECT_EQ(names(), Names{});
}

TEST_F(Companions, DanglingLinkIsLeftOutWithAWarning) {
  fs::create_directory(temp_ / "m");
  fs::create_symlink("nowhere", temp_ / "m/tokenizer_config.json");
  expect_left_out("tokenizer_config.json", "is a dangling link");
}

TEST_F(Companions, FileOver256MegabytesIsLeftOutWithAWarning) {
  fs::resize_file(temp_.write("m/NOTICE", ""), (size_t{1} << 28) + 1);
  expect_left_out("NOTICE", "has more than 268435456 bytes");
}

TEST_F(Companions, CopiesLieInTheOutputUnderTheirNames) {
  temp_.write("m/LICENSE", "");
  temp_.write("m/additional_chat_templates/rag.jinja", "{{ documents }}");
  OutputDirectory output(temp_ / "q", false);
  copy_companions(companion_files(temp_ / "m", "", warnings_), output);
  output.commit();
  EXPECT_EQ(temp_.read("q/additional_chat_templates/rag.jinja"), "{{ documents }}");
  EXPECT_TRUE(fs::is_empty(temp_ / "q/LICENSE"));
}

}  // namespace
}  // namespace ptq
