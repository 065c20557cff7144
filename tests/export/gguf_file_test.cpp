// The GGUF header: what is written is read, and what is damaged is an Error.
#include <gtest/gtest.h>

#include <cstring>

#include "../base/expect_error.h"
#include "../base/temp_directory.h"
#include "export/gguf/file.h"
#include "export/gguf/writer.h"

namespace ptq {
namespace {

// Builds a file byte by byte.
class Bytes {
 public:
  Bytes() { text_ = "GGUF"; }
  template <typename T>
  Bytes& number(T value) {
    char raw[sizeof(T)];
    std::memcpy(raw, &value, sizeof(T));
    text_.append(raw, sizeof(T));
    return *this;
  }
  Bytes& u32(uint32_t value) { return number(value); }
  Bytes& u64(uint64_t value) { return number(value); }
  Bytes& string(const std::string& value) {
    u64(value.size());
    text_ += value;
    return *this;
  }
  Bytes& header(uint64_t tensors, uint64_t keys, uint32_t version = 3) {
    return u32(version).u64(tensors).u64(keys);
  }
  // F32, one dimension.
  Bytes& tensor(const std::string& name, uint64_t size, uint64_t offset, uint32_t type = 0) {
    return string(name).u32(1).u64(size).u32(type).u64(offset);
  }
  Bytes& data(size_t bytes) {
    text_.resize((text_.size() + 31) / 32 * 32 + bytes, '\0');
    return *this;
  }
  const std::string& text() const { return text_; }
  GgufFile parse() const { return parse_gguf(std::as_bytes(std::span(text_)), text_.size(), "x.gguf"); }

 private:
  std::string text_;
};

constexpr ExitCode kFailed = ExitCode::kFailed;

TEST(GgufFile, WhatIsWrittenIsRead) {
  const TempDirectory directory;
  GgufMetadata metadata;
  metadata.add("a.text", "words");
  metadata.add("a.flag", true);
  metadata.add("a.count", uint32_t{7});
  metadata.add("a.real", 0.5F);
  metadata.add("a.texts", std::vector<std::string>{"", "b"});
  metadata.add("a.numbers", std::vector<int32_t>{-1, 2});
  metadata.add("a.reals", std::vector<float>{1.5F});
  const Tensor matrix = at::arange(12, at::kFloat).reshape({3, 4}), row = at::ones({5}, at::kFloat);
  GgufWriter writer(directory / "x.gguf", metadata,
                    {{"m", {3, 4}, GgmlType::kF32}, {"b", {5}, GgmlType::kF32}});
  writer.add(matrix);
  writer.add(row);
  writer.commit();
  const std::string text = directory.read("x.gguf");
  const GgufFile file = parse_gguf(std::as_bytes(std::span(text)), text.size(), "x.gguf");
  EXPECT_EQ(std::get<std::string>(file.metadata.at("a.text")), "words");
  EXPECT_EQ(std::get<bool>(file.metadata.at("a.flag")), true);
  EXPECT_EQ(std::get<int64_t>(file.metadata.at("a.count")), 7);
  EXPECT_EQ(std::get<double>(file.metadata.at("a.real")), 0.5);
  EXPECT_EQ(std::get<std::vector<std::string>>(file.metadata.at("a.texts")),
            (std::vector<std::string>{"", "b"}));
  EXPECT_EQ(std::get<std::vector<int64_t>>(file.metadata.at("a.numbers")), (std::vector<int64_t>{-1, 2}));
  EXPECT_EQ(std::get<std::vector<float>>(file.metadata.at("a.reals")), std::vector<float>{1.5F});
  ASSERT_EQ(file.tensors.size(), 2U);
  EXPECT_EQ(file.tensors[0].name, "b");
  EXPECT_EQ(file.tensors[1].shape, (std::vector<int64_t>{3, 4}));
  EXPECT_EQ(file.tensors[1].offset % kGgufAlignment, 0U);
  EXPECT_EQ(std::memcmp(text.data() + file.tensors[1].offset, matrix.const_data_ptr(), 48), 0);
}

TEST(GgufWriter, WithoutCommitNothingIsLeft) {
  const TempDirectory directory;
  {
    GgufWriter writer(directory / "x.gguf", {}, {{"m", {4}, GgmlType::kF32}});
  }
  EXPECT_TRUE(directory.list().empty());
  directory.write("x.gguf", "mine");
  EXPECT_ERROR(GgufWriter(directory / "x.gguf", {}, {}), kFailed, "already exists");
  EXPECT_EQ(directory.read("x.gguf"), "mine");
}

TEST(GgufFile, OtherFilesAndVersionsAreErrors) {
  EXPECT_ERROR(parse_gguf({}, 0, "x.gguf"), kFailed, "no GGUF file");
  EXPECT_ERROR(Bytes().header(0, 0, 1).parse(), kFailed, "version 1; 2 and 3 are read");
  EXPECT_ERROR(Bytes().header(0, 0, 0x03000000).parse(), kFailed, "big-endian");
  EXPECT_EQ(Bytes().header(0, 0, 2).parse().tensors.size(), 0U);
}

TEST(GgufFile, EveryTruncationIsAnError) {
  const std::string whole =
      Bytes().header(1, 1).string("k").u32(8).string("v").tensor("t", 4, 0).data(16).text();
  EXPECT_NO_THROW(parse_gguf(std::as_bytes(std::span(whole)), whole.size(), "x.gguf"));
  for (size_t size = 0; size < whole.size(); ++size) {
    const std::string cut = whole.substr(0, size);
    EXPECT_THROW(parse_gguf(std::as_bytes(std::span(cut)), cut.size(), "x.gguf"), Error) << size;
  }
}

TEST(GgufFile, CountsBeyondTheFileAreErrors) {
  EXPECT_ERROR(Bytes().header(uint64_t{1} << 63, 0).parse(), kFailed, "9223372036854775808 tensors");
  EXPECT_ERROR(Bytes().header(0, uint64_t{1} << 63).parse(), kFailed, "9223372036854775808 keys");
  EXPECT_ERROR(Bytes().header(0, 1).u64(uint64_t{1} << 63).u64(0).parse(), kFailed, "a string of");
  EXPECT_ERROR(Bytes().header(0, 1).string("k").u32(8).u64(UINT64_MAX).parse(), kFailed, "a string of");
  EXPECT_ERROR(Bytes().header(0, 1).string("k").u32(9).u32(0).u64(uint64_t{1} << 63).parse(), kFailed,
               "elements of an array");
  EXPECT_ERROR(Bytes().header(0, 1).string("k").u32(9).u32(8).u64(1000).u64(0).parse(), kFailed,
               "elements of an array");
}

TEST(GgufFile, ValuesThatAreNotKnownAreErrors) {
  EXPECT_ERROR(Bytes().header(0, 1).string("k").u32(13).u64(0).parse(), kFailed, "value type 13");
  EXPECT_ERROR(Bytes().header(0, 1).string("k").u32(9).u32(9).u64(1).u64(0).parse(), kFailed,
               "array of arrays");
  EXPECT_ERROR(Bytes().header(0, 1).string("k").u32(7).number(uint8_t{2}).parse(), kFailed, "truth value");
  EXPECT_ERROR(Bytes().header(0, 2).string("k").u32(4).u32(1).string("k").u32(4).u32(1).parse(), kFailed,
               "the key \"k\" twice");
}

TEST(GgufFile, AlignmentsThatAreNoneAreErrors) {
  for (const uint32_t alignment : {0U, 3U, 1U << 30}) {
    EXPECT_ERROR(Bytes().header(0, 1).string("general.alignment").u32(4).u32(alignment).parse(), kFailed,
                 "power of two");
  }
  EXPECT_ERROR(Bytes().header(0, 1).string("general.alignment").u32(8).string("32").parse(), kFailed,
               "power of two");
}

TEST(GgufFile, TensorsThatCannotBeAreErrors) {
  EXPECT_ERROR(Bytes().header(1, 0).tensor("t", 5, 0).data(16).parse(), kFailed, "lies outside");
  EXPECT_ERROR(Bytes().header(1, 0).tensor("t", 4, 32).data(32).parse(), kFailed, "lies outside");
  EXPECT_ERROR(Bytes().header(1, 0).tensor("t", 4, UINT64_MAX - 31).data(32).parse(), kFailed,
               "lies outside");
  EXPECT_ERROR(Bytes().header(1, 0).tensor("t", 4, 4).data(32).parse(), kFailed, "no multiple of 32");
  EXPECT_ERROR(Bytes().header(1, 0).tensor("t", 0, 0).data(32).parse(), kFailed, "a dimension of 0");
  EXPECT_ERROR(Bytes().header(1, 0).tensor("t", uint64_t{1} << 63, 0).data(32).parse(), kFailed,
               "a dimension of");
  EXPECT_ERROR(Bytes().header(1, 0).tensor("t", uint64_t{1} << 62, 0).data(32).parse(), kFailed,
               "more values than a file can hold");
  EXPECT_ERROR(Bytes().header(1, 0).tensor("t", 33, 0, 8).data(64).parse(), kFailed, "rows of 33 values");
  EXPECT_ERROR(Bytes().header(1, 0).tensor("t", 256, 0, 10).data(256).parse(), kFailed, "ggml's type 10");
  EXPECT_ERROR(Bytes().header(1, 0).string("t").u32(5).u64(0).u64(0).parse(), kFailed, "5 dimensions");
  const std::string big = Bytes()
                              .header(1, 0)
                              .string("t")
                              .u32(3)
                              .u64(uint64_t{1} << 40)
                              .u64(uint64_t{1} << 40)
                              .u64(4)
                              .u32(0)
                              .u64(0)
                              .text();
  EXPECT_ERROR(parse_gguf(std::as_bytes(std::span(big)), big.size(), "x.gguf"), kFailed, "more values");
}

TEST(GgufFile, TensorsOfOneNameOrOfTheSameBytesAreErrors) {
  EXPECT_ERROR(Bytes().header(2, 0).tensor("t", 4, 0).tensor("t", 4, 32).data(64).parse(), kFailed,
               "the tensor \"t\" twice");
  EXPECT_ERROR(Bytes().header(2, 0).tensor("a", 12, 0).tensor("b", 4, 32).data(64).parse(), kFailed,
               "share bytes");
  EXPECT_ERROR(Bytes().header(2, 0).tensor("a", 4, 0).tensor("b", 4, 0).data(64).parse(), kFailed,
               "share bytes");
  EXPECT_EQ(Bytes().header(2, 0).tensor("a", 8, 0).tensor("b", 4, 32).data(64).parse().tensors.size(), 2U);
}

}  // namespace
}  // namespace ptq
