#include "ptq/base/file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <array>
#include <filesystem>

#include "expect_error.h"
#include "ptq/base/hash.h"
#include "ptq/base/memory.h"
#include "temp_directory.h"

namespace ptq {
namespace {

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// What a run keeps for --resume stays after such an error.
TEST(Error, OfTheMachineOrASignalMayPassOthersDoNot) {
  EXPECT_FALSE(Error("a layer", "activations are NaN").may_pass());
  EXPECT_FALSE(usage_error("--seed", "is not a number").may_pass());
  EXPECT_TRUE(Error("", "interrupted", "", ExitCode::kInterrupted).may_pass());
  EXPECT_TRUE(passing_error("out", "No space left on device", "free some").may_pass());
  EXPECT_STREQ(passing_error("out", "No space left on device", "free some").what(),
               Error("out", "No space left on device", "free some").what());
  const TempDirectory temp;
  try {
    read_file(temp / "vanished");
    FAIL();
  } catch (const Error& error) {
    EXPECT_TRUE(error.may_pass());
  }
}

TEST(ReadFile, WholeContentIncludingZeroBytes) {
  const TempDirectory temp;
  const std::string content("a\0b\r\n", 5);
  EXPECT_EQ(read_file(temp.write("a", content)), content);
  EXPECT_EQ(read_file(temp.write("empty", "")), "");
}

TEST(ReadFile, MissingFileDirectoryAndFifoAreErrors) {
  const TempDirectory temp;
  EXPECT_ERROR(read_file(temp / "none"), ExitCode::kFailed, "No such file");
  EXPECT_ERROR(read_file(temp.path()), ExitCode::kFailed, "is a directory");
  ASSERT_EQ(::mkfifo((temp / "fifo").c_str(), 0600), 0);
  EXPECT_ERROR(read_file(temp / "fifo"), ExitCode::kFailed, "not a regular file");
}

TEST(ReadFile, MoreThanTheLimitIsAnError) {
  const TempDirectory temp;
  EXPECT_ERROR(read_file(temp.write("a", "12345"), 4), ExitCode::kFailed, "5 bytes; at most 4");
}

TEST(MappedFile, MappedAndUnmappedReadTheSame) {
  const TempDirectory temp;
  const std::string path = temp.write("a", "0123456789");
  EXPECT_EQ(as_text(MappedFile::open(path)->bytes()), "0123456789");
  for (const bool use_mmap : {true, false}) {
    const auto file = MappedFile::open(path, use_mmap);
    EXPECT_EQ(file->mapped(), use_mmap);
    EXPECT_EQ(file->size(), 10U);
    std::array<std::byte, 3> part{};
    file->read_into(7, part);
    EXPECT_EQ(as_text(part), "789");
    EXPECT_ERROR(file->read_into(8, part), ExitCode::kFailed, "bytes 8 to 11 lie outside the file of 10");
    EXPECT_ERROR(file->read_into(SIZE_MAX, part), ExitCode::kFailed, "outside");
  }
}

TEST(MappedFile, EmptyFileIsAnError) {
  const TempDirectory temp;
  EXPECT_ERROR(MappedFile::open(temp.write("a", "")), ExitCode::kFailed, "empty");
}

TEST(MappedFile, FileThatShrankIsAnErrorWithoutMmap) {
  const TempDirectory temp;
  const auto file = MappedFile::open(temp.write("a", "0123456789"), /*use_mmap=*/false);
  std::filesystem::resize_file(file->path(), 4);
  std::array<std::byte, 10> all{};
  EXPECT_ERROR(file->read_into(0, all), ExitCode::kFailed, "shrank");
}

TEST(MappedFile, LinkThatLeadsNowhereIsAnErrorThatSaysSo) {
  const TempDirectory temp;
  std::filesystem::create_symlink("blobs/12", temp / "link");
  EXPECT_ERROR(MappedFile::open(temp / "link"), ExitCode::kFailed,
               "link: is a symbolic link to blobs/12, which does not exist");
}

TEST(LastName, OfWhateverLeadsThere) {
  const TempDirectory temp;
  std::filesystem::create_directories(temp / "model/sub");
  for (const char* path : {"/model", "/model/", "/model/.", "/model/sub/..", "/model//"})
    EXPECT_EQ(last_name(temp.path() + path), "model") << path;
  EXPECT_EQ(last_name("a/b.pt"), "b.pt");
  EXPECT_EQ(last_name("."), std::filesystem::current_path().filename());
  EXPECT_EQ(last_name(".."), std::filesystem::current_path().parent_path().filename());
}

TEST(MappedFile, DroppedPagesAreReadAgain) {
  const TempDirectory temp;
  const auto file = MappedFile::open(temp.write("a", std::string(100'000, 'x')));
  file->drop(10, 99'000);
  EXPECT_EQ(as_text(file->bytes()), std::string(100'000, 'x'));
}

TEST(Sha256, KnownDigests) {
  // FIPS 180-2, appendix B.
  EXPECT_EQ(sha256_hex({}), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex(std::as_bytes(std::span(std::string_view("abc")))),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  const TempDirectory temp;
  EXPECT_EQ(sha256_file(temp.write("a", std::string(1'000'000, 'a'))),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, PiecesGiveTheSameAsTheWhole) {
  const std::string text(3'000'000, 'b');
  Sha256 hash;
  for (size_t at = 0; at < text.size(); at += 7'777) {
    hash.update(std::as_bytes(std::span(std::string_view(text).substr(at, 7'777))));
  }
  EXPECT_EQ(hash.hex(), sha256_hex(std::as_bytes(std::span(text))));
}

TEST(Sha256, EmptyFileHasADigestAndMissingFileIsAnError) {
  const TempDirectory temp;
  EXPECT_EQ(sha256_file(temp.write("a", "")), sha256_hex({}));
  EXPECT_ERROR(sha256_file(temp / "none"), ExitCode::kFailed, "No such file");
  EXPECT_ERROR(sha256_file(temp.path()), ExitCode::kFailed, "cannot read");
}

TEST(Memory, PeakCoversWhatWasTouched) {
  const std::string touched(64 << 20, 'x');
  EXPECT_GE(peak_rss_bytes(), static_cast<int64_t>(touched.size()));
  EXPECT_GT(available_memory_bytes(), 0);
}

}  // namespace
}  // namespace ptq
