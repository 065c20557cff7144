#include "ptq/base/work_directory.h"

#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>

#include "expect_error.h"
#include "ptq/base/output.h"
#include "temp_directory.h"

namespace ptq {
namespace {

namespace fs = std::filesystem;
using Names = std::vector<std::string>;

TEST(WorkDirectory, WithoutStateNothingIsLeft) {
  const TempDirectory temp;
  {
    const WorkDirectory work(temp / "out");
    write_file(work.path("a"), "x");
    EXPECT_EQ(temp.list(), Names{".out.partial"});
  }
  EXPECT_EQ(temp.list(), Names{});
}

TEST(WorkDirectory, StateIsFoundAgain) {
  const TempDirectory temp;
  {
    WorkDirectory work(temp / "out");
    EXPECT_FALSE(work.keeps_state());
    work.write_state("one");
    work.write_state("two");
  }
  const WorkDirectory work(temp / "out");
  EXPECT_TRUE(work.keeps_state());
  EXPECT_EQ(temp.read(".out.partial/state"), "two");
}

TEST(WorkDirectory, ClearedStateIsNotKept) {
  const TempDirectory temp;
  {
    WorkDirectory work(temp / "out");
    work.write_state("one");
    write_file(work.path("a"), "x");
    fs::create_directory(work.path("output"));
    work.clear();
    EXPECT_FALSE(work.keeps_state());
    EXPECT_TRUE(fs::exists(work.path("output")));
    EXPECT_FALSE(fs::exists(work.path("a")));
    EXPECT_ERROR(WorkDirectory(temp / "out"), ExitCode::kFailed, "another run");  // still locked
  }
  EXPECT_EQ(temp.list(), Names{});
}

TEST(WorkDirectory, SecondRunOfTheSameOutputIsRefused) {
  const TempDirectory temp;
  const WorkDirectory work(temp / "out");
  write_file(work.path("a"), "x");
  EXPECT_ERROR(WorkDirectory(temp / "out"), ExitCode::kFailed, "another run is writing this output");
  EXPECT_NO_THROW(WorkDirectory(temp / "other"));
  EXPECT_TRUE(fs::exists(work.path("a")));
}

TEST(WorkDirectory, DirectoryOfOthersIsRefusedAndLeftAlone) {
  const TempDirectory temp;
  temp.write(".out.partial/letter.txt", "dear");
  EXPECT_ERROR(WorkDirectory(temp / "out"), ExitCode::kFailed, "not made by this program");
  EXPECT_EQ(temp.read(".out.partial/letter.txt"), "dear");
  temp.write(".file.partial", "dear");
  EXPECT_ERROR(WorkDirectory(temp / "file"), ExitCode::kFailed, "is not a directory");
  fs::create_directory_symlink(temp / ".out.partial", temp / ".link.partial");
  EXPECT_ERROR(WorkDirectory(temp / "link"), ExitCode::kFailed, "is not a directory");
}

TEST(WorkDirectory, EmptyDirectoryOfAKilledRunIsTakenOver) {
  const TempDirectory temp;
  fs::create_directory(temp / ".out.partial");
  EXPECT_NO_THROW(WorkDirectory(temp / "out"));
  EXPECT_EQ(temp.list(), Names{});
}

TEST(WorkDirectory, RemoveLeavesNothing) {
  const TempDirectory temp;
  WorkDirectory work(temp / "out");
  work.write_state("one");
  work.remove();
  EXPECT_EQ(temp.list(), Names{});
}

// In a process of its own: a flag that is set stays set.
void signal_twice(const std::string& path, bool with_state) {
  install_interrupt_handlers();
  WorkDirectory work(path);
  if (with_state) work.write_state("one");
  const OutputDirectory output(path, false, work.path("output"));
  write_file(output.path("a"), "x");
  std::raise(SIGINT);
  std::raise(SIGINT);
  std::_Exit(0);
}

TEST(WorkDirectoryDeathTest, SecondSignalRemovesItUnlessItKeepsState) {
  const TempDirectory temp;
  EXPECT_EXIT(signal_twice(temp / "a", false), ::testing::ExitedWithCode(5), "");
  EXPECT_EQ(temp.list(), Names{});
  EXPECT_EXIT(signal_twice(temp / "b", true), ::testing::ExitedWithCode(5), "");
  EXPECT_EQ(temp.list(), Names{".b.partial"});
  EXPECT_EQ(temp.read(".b.partial/state"), "one");
}

}  // namespace
}  // namespace ptq
