#include "checkpoint/zip.h"

#include <gtest/gtest.h>

#include "builders.h"

namespace ptq {
namespace {

using namespace ::ptq::testing;

std::string zip_error(const std::string& bytes) {
  return error_of([&] { ZipIndex index(source_of(bytes)); });
}

// The archive of `bytes` with the two or four bytes at a place, counted from the end, replaced.
std::string patched(std::string bytes, size_t from_end, const std::string& value) {
  bytes.replace(bytes.size() - from_end, value.size(), value);
  return bytes;
}

const std::vector<ZipPart> kTwo = {{.name = "a", .data = "first"}, {.name = "b", .data = "second"}};

TEST(Zip, StoredEntriesAreFoundByNameInBothForms) {
  for (const bool zip64 : {false, true}) {
    const std::string bytes = zip(kTwo, zip64);
    const ZipIndex index(source_of(bytes));
    EXPECT_EQ(index.entries().size(), 2U);
    EXPECT_EQ(as_text(index.read("b", 100).bytes), "second");
    EXPECT_EQ(index.find("c"), nullptr);
  }
}

TEST(Zip, CommentThatLooksLikeAnEndRecordIsPassedOver) {
  const std::string bytes = zip(kTwo, false, "PK\x05\x06 and more text than such a record has");
  EXPECT_EQ(ZipIndex(source_of(bytes)).entries().size(), 2U);
}

TEST(Zip, FileCutShortIsAnError) {
  const std::string bytes = zip(kTwo);
  for (size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_NE(zip_error(bytes.substr(0, length)), "") << length;
  }
}

TEST(Zip, DuplicateNameIsAnError) {
  EXPECT_TRUE(has(zip_error(zip({{.name = "a"}, {.name = "a"}})), "two entries named \"a\""));
}

TEST(Zip, EncryptedEntryIsAnError) {
  EXPECT_TRUE(has(zip_error(zip({{.name = "a", .flags = 1}})), "encrypted"));
}

TEST(Zip, CompressedEntryIsAnErrorOnlyWhenAccessed) {
  const std::string bytes = zip({{.name = "a", .data = "x"}, {.name = "code", .data = "y", .method = 8}});
  const ZipIndex index(source_of(bytes));
  EXPECT_EQ(as_text(index.read("a", 1).bytes), "x");
  EXPECT_TRUE(has(error_of([&] { index.stored("code"); }), "\"code\" is compressed"));
}

TEST(Zip, EntryLongerThanTheFileIsAnError) {
  EXPECT_TRUE(has(zip_error(zip({{.name = "a", .data = "x", .extra_bytes = 1}})), "lie outside"));
  EXPECT_TRUE(
      has(zip_error(zip({{.name = "a", .data = "x", .extra_bytes = 0xf0000000}}, true)), "lie outside"));
}

TEST(Zip, FlippedByteInARecordIsAnErrorWithBothChecksums) {
  const std::string bytes = zip({{.name = "a", .data = "x", .crc_flip = 1}});
  const ZipIndex index(source_of(bytes));
  EXPECT_TRUE(has(error_of([&] { index.read("a", 10); }), "checksum"));
}

TEST(Zip, RecordLongerThanAskedForIsAnError) {
  const std::string bytes = zip(kTwo);
  const ZipIndex index(source_of(bytes));
  EXPECT_TRUE(has(error_of([&] { index.read("b", 5); }), "6 bytes; at most 5"));
}

TEST(Zip, DirectoryOutsideTheFileIsAnError) {
  EXPECT_TRUE(has(zip_error(patched(zip(kTwo), 6, le<uint32_t>(100'000))), "outside the file"));
  EXPECT_TRUE(
      has(zip_error(patched(zip(kTwo, true), 22 + 20 + 8, le<uint64_t>(UINT64_MAX))), "outside the file"));
}

TEST(Zip, Zip64RecordOutsideTheFileIsAnError) {
  EXPECT_TRUE(
      has(zip_error(patched(zip(kTwo, true), 22 + 12, le<uint64_t>(UINT64_MAX - 1))), "is no place for it"));
}

TEST(Zip, EntryCountThatDisagreesIsAnError) {
  EXPECT_TRUE(has(zip_error(patched(zip(kTwo), 14, le<uint16_t>(3) + le<uint16_t>(3))), "2 entries"));
  EXPECT_TRUE(has(zip_error(patched(zip(kTwo), 14, le<uint16_t>(1) + le<uint16_t>(1))), "after the last"));
}

TEST(Zip, ArchiveInSeveralPartsIsAnError) {
  EXPECT_TRUE(has(zip_error(patched(zip(kTwo), 18, le<uint16_t>(1))), "several parts"));
}

TEST(Zip, NoArchiveIsAnError) {
  EXPECT_TRUE(has(zip_error(std::string(70'000, 'x')), "the end of the zip archive is missing"));
}

}  // namespace
}  // namespace ptq
