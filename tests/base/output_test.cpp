#include "ptq/base/output.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <filesystem>

#include "expect_error.h"
#include "temp_directory.h"

namespace ptq {
namespace {

namespace fs = std::filesystem;
using Names = std::vector<std::string>;

constexpr char kOurConfig[] = R"({"quantization_config": {"quant_method": "ptq"}})";

TEST(OutputDirectory, CommitGivesTheFinalNameAndLeavesNothingElse) {
  const TempDirectory temp;
  OutputDirectory out(temp / "out", false);
  write_file(out.path("b.txt"), "two");
  write_file(out.path("a.txt"), "one");
  EXPECT_FALSE(fs::exists(temp / "out"));
  EXPECT_EQ(out.files(), (Names{"a.txt", "b.txt"}));
  out.commit();
  EXPECT_EQ(temp.read("out/a.txt"), "one");
  EXPECT_EQ(temp.list(), Names{"out"});
}

TEST(OutputDirectory, WithoutCommitNothingIsLeft) {
  const TempDirectory temp;
  {
    const OutputDirectory out(temp / "out", false);
    write_file(out.path("a.txt"), "one");
    EXPECT_EQ(temp.list().size(), 1U);
  }
  EXPECT_EQ(temp.list(), Names{});
}

TEST(OutputDirectory, TrailingSlashIsTheSameName) {
  const TempDirectory temp;
  OutputDirectory out(temp / "out//", false);
  out.commit();
  EXPECT_EQ(out.final_path(), temp / "out");
  EXPECT_TRUE(fs::is_directory(temp / "out"));
}

TEST(OutputDirectory, DotAndEmptyNamesAreUsageErrors) {
  for (const char* name : {"", ".", "..", "/", "a/.."}) {
    EXPECT_ERROR(OutputDirectory(name, true), ExitCode::kUsage, "not a name");
  }
}

TEST(OutputDirectory, ExistingOutputWithoutForceIsAnError) {
  const TempDirectory temp;
  fs::create_directory(temp / "out");
  EXPECT_ERROR(OutputDirectory(temp / "out", false), ExitCode::kFailed, "--force");
  EXPECT_EQ(temp.list(), Names{"out"});
}

TEST(OutputDirectory, NameThatLeavesNoRoomForTheWorkDirectoryIsAnError) {
  const TempDirectory temp;
  EXPECT_NO_THROW(output_path(temp / std::string(246, 'a'), false));
  for (const size_t letters : {size_t{247}, size_t{300}})
    EXPECT_ERROR(output_path(temp / std::string(letters, 'a'), false), ExitCode::kFailed, "too long");
}

TEST(OutputDirectory, MissingParentIsAnError) {
  const TempDirectory temp;
  EXPECT_ERROR(OutputDirectory(temp / "no/out", false), ExitCode::kFailed, "parent");
}

TEST(OutputDirectory, ParentThatIsAFileIsAnError) {
  const TempDirectory temp;
  temp.write("file", "x");
  EXPECT_ERROR(OutputDirectory(temp / "file/out", false), ExitCode::kFailed, "file");
}

TEST(OutputDirectory, ParentThatCannotBeWrittenToIsAnError) {
  // /proc refuses even root.
  EXPECT_ERROR(OutputDirectory("/proc/out", false), ExitCode::kFailed, "cannot write beside it");
}

TEST(OutputDirectory, ForceReplacesAnOutputOfOurs) {
  const TempDirectory temp;
  temp.write("out/config.json", kOurConfig);
  temp.write("out/stale.txt", "stale");
  OutputDirectory out(temp / "out", true);
  write_file(out.path("a.txt"), "one");
  EXPECT_EQ(temp.read("out/stale.txt"), "stale");
  out.commit();
  EXPECT_EQ(temp.list(), Names{"out"});
  EXPECT_EQ(temp.read("out/a.txt"), "one");
  EXPECT_FALSE(fs::exists(temp / "out/stale.txt"));
}

TEST(OutputDirectory, ForceReplacesAnEmptyDirectoryAndOneWithOurReport) {
  const TempDirectory temp;
  fs::create_directory(temp / "empty");
  OutputDirectory(temp / "empty", true).commit();
  temp.write("report/report.json", R"({"program": {"name": "quantize"}})");
  OutputDirectory(temp / "report", true).commit();
  EXPECT_TRUE(fs::is_empty(temp / "report"));
}

TEST(OutputDirectory, ForceThatFailsLeavesTheFormerOutput) {
  const TempDirectory temp;
  temp.write("out/config.json", kOurConfig);
  {
    const OutputDirectory out(temp / "out", true);
  }
  EXPECT_EQ(temp.list(), Names{"out"});
  EXPECT_EQ(temp.read("out/config.json"), kOurConfig);
}

TEST(OutputDirectory, ForceOnSomebodyElsesDirectoryIsAnError) {
  const TempDirectory temp;
  temp.write("model/config.json", R"({"quantization_config": {"quant_method": "gptq"}})");
  EXPECT_ERROR(OutputDirectory(temp / "model", true), ExitCode::kFailed, "not written by this program");
  temp.write("notes/notes.txt", "x");
  EXPECT_ERROR(OutputDirectory(temp / "notes", true), ExitCode::kFailed, "not written by this program");
  temp.write("broken/config.json", "{");
  EXPECT_ERROR(OutputDirectory(temp / "broken", true), ExitCode::kFailed, "not written by this program");
}

TEST(OutputDirectory, ForceOnAFileOrLinkIsAnError) {
  const TempDirectory temp;
  temp.write("file", "x");
  fs::create_symlink(temp / "file", temp / "link");
  EXPECT_ERROR(OutputDirectory(temp / "file", true), ExitCode::kFailed, "not a directory");
  EXPECT_ERROR(OutputDirectory(temp / "link", true), ExitCode::kFailed, "symbolic link");
}

TEST(OutputDirectory, ForceOnOursWithAnExtraFileIsAnError) {
  const TempDirectory temp;
  temp.write("out/config.json", kOurConfig);
  temp.write("out/SHA256SUMS", "00  config.json\n");
  OutputDirectory(temp / "out", true);
  temp.write("out/thesis.txt", "years of work");
  EXPECT_ERROR(OutputDirectory(temp / "out", true), ExitCode::kFailed, "thesis.txt");
}

TEST(OutputDirectory, ForceOnOursWithASubdirectoryIsAnError) {
  const TempDirectory temp;
  temp.write("out/config.json", kOurConfig);
  fs::create_directory(temp / "out/sub");
  EXPECT_ERROR(OutputDirectory(temp / "out", true), ExitCode::kFailed, "sub");
}

TEST(OutputDirectory, ForceOnOursWithAListedSubdirectoryReplacesIt) {
  const TempDirectory temp;
  temp.write("out/config.json", kOurConfig);
  temp.write("out/templates/a.jinja", "a");
  temp.write("out/SHA256SUMS", "00  config.json\n00  templates/a.jinja\n");
  OutputDirectory(temp / "out", true).commit();
  EXPECT_TRUE(fs::is_empty(temp / "out"));
}

TEST(OutputDirectory, ForceOnOursWithAnUnlistedFileInASubdirectoryIsAnError) {
  const TempDirectory temp;
  temp.write("out/config.json", kOurConfig);
  temp.write("out/templates/a.jinja", "a");
  temp.write("out/SHA256SUMS", "00  config.json\n00  a.jinja\n");
  EXPECT_ERROR(OutputDirectory(temp / "out", true), ExitCode::kFailed, "templates/a.jinja");
}

TEST(OutputDirectory, FilesOfASubdirectoryAreListedAndCommitted) {
  const TempDirectory temp;
  OutputDirectory out(temp / "out", false);
  out.make_directory("templates");
  out.make_directory("templates");
  write_file(out.path("templates/a.jinja"), "a");
  write_file(out.path("z"), "z");
  EXPECT_EQ(out.files(), (Names{"templates/a.jinja", "z"}));
  out.commit();
  EXPECT_EQ(temp.read("out/templates/a.jinja"), "a");
}

TEST(ListOutput, LinksEmptyAndDeeperDirectoriesAreOthers) {
  const TempDirectory temp;
  temp.write("a", "");
  temp.write("b/c", "");
  temp.write("b/deep/d", "");
  fs::create_directory(temp / "empty");
  fs::create_symlink(temp / "a", temp / "link");
  const OutputContents contents = list_output(temp.path());
  EXPECT_EQ(contents.files, (Names{"a", "b/c"}));
  EXPECT_EQ(contents.others, (Names{"b/deep", "empty/", "link"}));
}

TEST(OutputDirectory, InsideAnOutputOfOursIsAnError) {
  const TempDirectory directory;
  directory.write("out/report.json", R"({"program": {"name": "quantize"}})");
  directory.write("out/SHA256SUMS", "");
  EXPECT_ERROR(output_path(directory / "out/sub", false), ExitCode::kFailed, "is itself an output");
  std::filesystem::remove(directory / "out/SHA256SUMS");
  EXPECT_NO_THROW(output_path(directory / "out/sub", false));
}

TEST(OutputDirectory, OutputMadeByOthersDuringTheRunIsAnError) {
  const TempDirectory temp;
  {
    OutputDirectory out(temp / "out", false);
    temp.write("out/theirs.txt", "x");
    EXPECT_ERROR(out.commit(), ExitCode::kFailed, "somebody else");
  }
  EXPECT_EQ(temp.list(), Names{"out"});
  EXPECT_EQ(temp.read("out/theirs.txt"), "x");
}

TEST(OutputDirectory, DirectoryLeftByAKilledRunWithTheSameProcessIdIsSteppedAround) {
  const TempDirectory temp;
  fs::create_directory(temp / (".out." + std::to_string(::getpid()) + ".partial"));
  OutputDirectory(temp / "out", false).commit();
  EXPECT_TRUE(fs::is_directory(temp / "out"));
}

TEST(OutputFile, OffsetCountsBytes) {
  const TempDirectory temp;
  OutputFile file(temp / "a");
  EXPECT_EQ(file.offset(), 0);
  file.write("12345");
  EXPECT_EQ(file.offset(), 5);
  file.close();
  EXPECT_EQ(temp.read("a"), "12345");
}

TEST(OutputFile, ExistingFileIsAnError) {
  const TempDirectory temp;
  temp.write("a", "x");
  EXPECT_ERROR(OutputFile(temp / "a"), ExitCode::kFailed, "cannot create");
}

TEST(OutputFile, GoesOnWhereItWasCut) {
  const TempDirectory temp;
  temp.write("a", "12345");
  OutputFile file(temp / "a", 3);
  EXPECT_EQ(file.offset(), 3);
  file.write("x");
  file.flush();
  EXPECT_EQ(temp.read("a"), "123x");
}

TEST(OutputFile, CutPastTheEndOrOfALinkIsAnError) {
  const TempDirectory temp;
  temp.write("a", "12345");
  fs::create_symlink(temp / "a", temp / "link");
  EXPECT_ERROR(OutputFile(temp / "a", 6), ExitCode::kFailed, "byte 6 of a file of 5");
  EXPECT_ERROR(OutputFile(temp / "link", 3), ExitCode::kFailed, "cannot open");
  EXPECT_EQ(temp.read("a"), "12345");
}

TEST(OutputDirectory, TemporaryThatWasChosenIsEmptiedFirst) {
  const TempDirectory temp;
  temp.write("work/output/stale", "x");
  OutputDirectory out(temp / "out", false, temp / "work/output");
  EXPECT_EQ(out.files(), Names{});
  write_file(out.path("a"), "one");
  out.commit();
  EXPECT_EQ(temp.read("out/a"), "one");
  EXPECT_TRUE(fs::is_empty(temp / "work"));
}

// Runs in a process of its own: a limit cannot be raised again without rights.
void write_over_the_limit(const std::string& path) {
  std::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{1000, 1000};
  ::setrlimit(RLIMIT_FSIZE, &limit);
  try {
    OutputDirectory out(path, false);
    OutputFile file(out.path("a"));
    file.write(std::string(600, 'x'));
    file.write(std::string(600, 'x'));
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    std::_Exit(static_cast<int>(error.exit_code()));
  }
  std::_Exit(0);
}

TEST(OutputFileDeathTest, FileOverTheSizeLimitIsAnErrorAndNothingIsLeft) {
  const TempDirectory temp;
  EXPECT_EXIT(write_over_the_limit(temp / "out"), ::testing::ExitedWithCode(1),
              "cannot write 200 bytes at 1000: File too large");
  EXPECT_EQ(temp.list(), Names{});
}

// Mounts a disk of 64 KiB that only this process sees; exits with 77 where that is not allowed.
void write_to_a_full_disk(const std::string& mount_point) {
  const bool mounted = ::unshare(CLONE_NEWNS | (::geteuid() == 0 ? 0 : CLONE_NEWUSER)) == 0 &&
                       ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                       ::mount("tmpfs", mount_point.c_str(), "tmpfs", 0, "size=64k") == 0;
  if (!mounted) {
    std::fprintf(stderr, "mounting is not allowed\n");
    std::_Exit(77);
  }
  int code = 0;
  try {
    const OutputDirectory out(mount_point + "/out", false);
    write_file(out.path("a"), std::string(100'000, 'x'));
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    code = static_cast<int>(error.exit_code());
  }
  std::_Exit(fs::is_empty(mount_point) ? code : 99);
}

TEST(OutputFileDeathTest, FullDiskIsAnErrorAndNothingIsLeft) {
  const TempDirectory temp;
  bool allowed = true;
  const auto failed_or_not_allowed = [&](int status) {
    allowed = !::testing::ExitedWithCode(77)(status);
    return !allowed || ::testing::ExitedWithCode(1)(status);
  };
  EXPECT_EXIT(write_to_a_full_disk(temp.path()), failed_or_not_allowed,
              "No space left on device|not allowed");
  if (!allowed) GTEST_SKIP() << "mounting is not allowed here";
}

TEST(OutputHere, InTheFolderThatItIsMadeFromIsAUsageError) {
  EXPECT_EQ(output_here("q", "/nowhere"), "q");
  const std::string here = std::filesystem::current_path().string();
  for (const std::string& source : {std::string("."), here, here + "/", std::string("/")})
    EXPECT_ERROR(output_here("q", source), ExitCode::kUsage, "q: the default output would lie");
}

}  // namespace
}  // namespace ptq
