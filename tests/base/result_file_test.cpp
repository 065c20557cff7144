#include "ptq/base/result_file.h"

#include <gtest/gtest.h>

#include "expect_error.h"
#include "temp_directory.h"

namespace ptq {
namespace {

TEST(ResultFile, IsWrittenWhole) {
  const TempDirectory directory;
  write_result(directory / "a.xml", "text", false);
  EXPECT_EQ(directory.read("a.xml"), "text");
  EXPECT_EQ(directory.list(), std::vector<std::string>{"a.xml"});
}

TEST(ResultFile, ExistingFileNeedsForce) {
  const TempDirectory directory;
  directory.write("a.xml", "before");
  EXPECT_ERROR(expect_writable_result(directory / "a.xml", false), ExitCode::kFailed, "--force");
  EXPECT_ERROR(write_result(directory / "a.xml", "text", false), ExitCode::kFailed, "already exists");
  EXPECT_EQ(directory.read("a.xml"), "before");
  write_result(directory / "a.xml", "text", true);
  EXPECT_EQ(directory.read("a.xml"), "text");
  EXPECT_EQ(directory.list(), std::vector<std::string>{"a.xml"});
}

TEST(ResultFile, FilesOfAnOutputAreNotReplaced) {
  const TempDirectory directory;
  directory.write("out/report.json", R"({"program": {"name": "quantize"}})");
  directory.write("out/SHA256SUMS", std::string(64, '0') + "  report.json\n");
  for (const char* name : {"out/report.json", "out/SHA256SUMS"}) {
    const std::string before = directory.read(name);
    EXPECT_ERROR(write_result(directory / name, "text", true), ExitCode::kFailed, "is a file of");
    EXPECT_EQ(directory.read(name), before);
  }
  write_result(directory / "out/report.html", "text", false);
  EXPECT_EQ(directory.read("out/report.html"), "text");
}

TEST(ResultFile, WhatIsNoFileIsNotReplaced) {
  const TempDirectory directory;
  directory.write("d/x", "");
  std::filesystem::create_symlink("d/x", directory / "link");
  for (const char* name : {"d", "link"})
    EXPECT_ERROR(write_result(directory / name, "text", true), ExitCode::kFailed, "not a regular file");
  EXPECT_ERROR(write_result(directory / "none/a.xml", "text", true), ExitCode::kFailed, "is not a directory");
  EXPECT_ERROR(write_result(directory / "d/", "text", true), ExitCode::kUsage, "not a name");
}

}  // namespace
}  // namespace ptq
