// Documents from text and JSONL files.
#include "ptq/tokenizer/text_file.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "ptq/base/error.h"

namespace ptq {
namespace {

std::vector<std::string> documents_of(const std::string& name, const std::string& content) {
  const std::string path =
      testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name() + name;
  std::ofstream(path, std::ios::binary) << content;
  try {
    auto documents = read_documents(path);
    std::filesystem::remove(path);
    return documents;
  } catch (...) {
    std::filesystem::remove(path);
    throw;
  }
}

using Strings = std::vector<std::string>;

TEST(TextFile, PlainFileIsOneDocument) {
  EXPECT_EQ(documents_of(".txt", "a\nb\xFF\n"), (Strings{"a\nb\xFF\n"}));
}

TEST(TextFile, EmptyFileIsOneEmptyDocument) {
  EXPECT_EQ(documents_of(".txt", ""), (Strings{""}));
}

TEST(TextFile, JsonlFileHasADocumentALine) {
  EXPECT_EQ(documents_of(".jsonl", "{\"text\": \"a\\nb\", \"id\": 1}\r\n\n  \n{\"text\": \"\"}"),
            (Strings{"a\nb", ""}));
}

TEST(TextFile, EmptyJsonlFileHasNoDocuments) {
  EXPECT_EQ(documents_of(".jsonl", "\n\n"), Strings{});
}

TEST(TextFile, LineThatIsNoJsonIsAnErrorThatNamesTheLine) {
  try {
    documents_of(".jsonl", "{\"text\": \"a\"}\n\n{\"text\": }\n");
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("line 3"), std::string::npos) << error.what();
  }
}

TEST(TextFile, LineWithoutTextIsAnError) {
  EXPECT_THROW(documents_of(".jsonl", "{\"txt\": \"a\"}"), Error);
}

TEST(TextFile, TextThatIsNoStringIsAnError) {
  EXPECT_THROW(documents_of(".jsonl", "{\"text\": 1}"), Error);
}

TEST(TextFile, LineThatIsNoObjectIsAnError) {
  EXPECT_THROW(documents_of(".jsonl", "[\"text\"]"), Error);
}

}  // namespace
}  // namespace ptq
