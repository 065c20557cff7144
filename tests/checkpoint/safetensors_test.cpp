#include "checkpoint/safetensors.h"

#include <gtest/gtest.h>

#include "builders.h"
#include "checkpoint/json_scan.h"

namespace ptq {
namespace {

using namespace ::ptq::testing;

std::string parse_error(const std::string& bytes) {
  return error_of([&] { parse_safetensors(source_of(bytes)); });
}

std::string entry(const std::string& name, const std::string& dtype, const std::string& shape, int begin,
                  int end) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":[" +
         std::to_string(begin) + "," + std::to_string(end) + "]}";
}

TEST(SafetensorsReader, TensorsAreSortedByNameAndPlacedByOffset) {
  const std::string header =
      "{" + entry("b", "F16", "[2]", 0, 4) + "," + entry("a", "U8", "[]", 4, 5) + "}  ";
  const TensorFile file = parse_safetensors(source_of(safetensors(header, "abcde")));
  ASSERT_EQ(file.tensors.size(), 2U);
  EXPECT_EQ(file.tensors[0].info.name, "a");
  EXPECT_TRUE(file.tensors[0].info.shape.empty());
  EXPECT_EQ(file.storages[file.tensors[0].storage].offset, 8 + header.size() + 4);
  EXPECT_EQ(file.tensors[1].info.shape, std::vector<int64_t>{2});
}

TEST(SafetensorsReader, NullMetadataIsAnAbsentMap) {
  const std::string a = R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
  EXPECT_EQ(
      parse_safetensors(source_of(safetensors(R"({"__metadata__":null,)" + a + "}", "x"))).tensors.size(),
      1U);
  EXPECT_NE(error_of([&] {
              parse_safetensors(
                  source_of(safetensors(R"({"__metadata__":null,"__metadata__":{},)" + a + "}", "x")));
            }),
            "");
  EXPECT_NE(error_of([&] { parse_safetensors(source_of(safetensors(R"({"a":null})", "x"))); }), "");
}

TEST(SafetensorsReader, EmptyTensorsAndMetadataAreRead) {
  const std::string header = R"({"__metadata__":{"format":"pt"},)" + entry("x", "F32", "[0,3]", 0, 0) + "}";
  EXPECT_EQ(parse_safetensors(source_of(safetensors(header, ""))).tensors.size(), 1U);
}

TEST(SafetensorsReader, HeaderLongerThanFileIsAnError) {
  EXPECT_TRUE(
      has(parse_error(le<uint64_t>(1000) + "{}"), "header of 1000 bytes is longer than the file of 10"));
}

TEST(SafetensorsReader, HeaderLengthOverTheLimitIsAnError) {
  EXPECT_TRUE(has(parse_error(le<uint64_t>(UINT64_MAX) + "{}"), "at most 100000000"));
}

TEST(SafetensorsReader, ThreeBytesAreAnError) {
  EXPECT_TRUE(has(parse_error("abc"), "of 3 bytes"));
}

TEST(SafetensorsReader, GapBetweenTensorsIsAnError) {
  const std::string header = "{" + entry("a", "U8", "[1]", 0, 1) + "," + entry("b", "U8", "[1]", 2, 3) + "}";
  EXPECT_TRUE(has(parse_error(safetensors(header, "abc")), "begins at byte 2 where 1 is expected"));
}

TEST(SafetensorsReader, OverlappingTensorsAreAnError) {
  const std::string header = "{" + entry("a", "U8", "[2]", 0, 2) + "," + entry("b", "U8", "[2]", 1, 3) + "}";
  EXPECT_TRUE(has(parse_error(safetensors(header, "abc")), "begins at byte 1 where 2 is expected"));
}

TEST(SafetensorsReader, BytesAfterTheLastTensorAreAnError) {
  const std::string header = "{" + entry("a", "U8", "[1]", 0, 1) + "}";
  EXPECT_TRUE(has(parse_error(safetensors(header, "abc")), "end at byte 1 of 3"));
}

TEST(SafetensorsReader, DataCutShortIsAnErrorThatNamesTheTensor) {
  const std::string message = parse_error(safetensors("{" + entry("a", "U8", "[4]", 0, 4) + "}", "ab"));
  EXPECT_TRUE(has(message, "test: tensor \"a\"")) << message;
  EXPECT_TRUE(has(message, "lie outside the 2 bytes")) << message;
}

TEST(SafetensorsReader, ShapeThatDisagreesWithOffsetsIsAnErrorWithBothNumbers) {
  const std::string message = parse_error(safetensors("{" + entry("a", "F32", "[2]", 0, 4) + "}", "abcd"));
  EXPECT_TRUE(has(message, "take 8 bytes, data_offsets give it 4")) << message;
}

TEST(SafetensorsReader, ShapeWhoseProductOverflowsIsAnError) {
  const std::string shape = "[4294967296,4294967296,4294967296]";
  EXPECT_TRUE(has(parse_error(safetensors("{" + entry("a", "U8", shape, 0, 0) + "}", "")), "2^63"));
  const std::string with_zero = "[0,4294967296,4294967296,4294967296]";
  EXPECT_TRUE(has(parse_error(safetensors("{" + entry("a", "U8", with_zero, 0, 0) + "}", "")), "2^63"));
}

TEST(SafetensorsReader, DuplicateTensorIsAnError) {
  const std::string header = "{" + entry("a", "U8", "[1]", 0, 1) + "," + entry("a", "U8", "[1]", 1, 2) + "}";
  EXPECT_TRUE(has(parse_error(safetensors(header, "ab")), "\"a\" occurs twice"));
}

TEST(SafetensorsReader, DuplicateFieldIsAnError) {
  const std::string header = R"({"a":{"dtype":"U8","dtype":"I8","shape":[],"data_offsets":[0,1]}})";
  EXPECT_TRUE(has(parse_error(safetensors(header, "a")), "\"dtype\" occurs twice"));
}

TEST(SafetensorsReader, DuplicateMetadataIsAnError) {
  EXPECT_TRUE(has(parse_error(safetensors(R"({"__metadata__":{},"__metadata__":{}})", "")), "twice"));
  EXPECT_TRUE(has(parse_error(safetensors(R"({"__metadata__":{"k":"1","k":"2"}})", "")), "twice"));
}

TEST(SafetensorsReader, MissingOrUnknownFieldIsAnError) {
  EXPECT_TRUE(
      has(parse_error(safetensors(R"({"a":{"dtype":"U8","shape":[]}})", "")), "\"data_offsets\" is missing"));
  EXPECT_TRUE(has(parse_error(safetensors(R"({"a":{"stride":[]}})", "")), "unknown field \"stride\""));
}

TEST(SafetensorsReader, UnknownTypeIsAnErrorThatNamesIt) {
  EXPECT_TRUE(has(parse_error(safetensors("{" + entry("a", "F4", "[1]", 0, 1) + "}", "a")), "\"F4\""));
}

TEST(SafetensorsReader, WrongStructureIsAnError) {
  for (const char* header :
       {"[]", "3", "{\"a\":3}", "{\"a\":[]}", R"({"a":{"dtype":["U8"]}})", R"({"a":{"shape":{}}})",
        R"({"a":{"shape":[[1]]}})", R"({"a":{"shape":[-1]}})", R"({"a":{"shape":[1.5]}})",
        R"({"a":{"dtype":"U8","shape":[],"data_offsets":[0]}})",
        R"({"a":{"dtype":"U8","shape":[],"data_offsets":[0,1,1]}})", R"({"__metadata__":{"k":1}})",
        R"({"__metadata__":{"k":{}}})", "{\"a\":", "{} x", "{\"\xff\":3}"}) {
    parse_error(safetensors(header, ""));
  }
}

TEST(SafetensorsReader, DeepNestingIsAnError) {
  EXPECT_NE(parse_error(safetensors(std::string(100'000, '['), "")), "");
}

TEST(SafetensorsReader, TooManyDimensionsAreAnError) {
  std::string shape = "[1";
  for (size_t i = 0; i < kMaxDims; ++i) shape += ",1";
  EXPECT_TRUE(
      has(parse_error(safetensors("{" + entry("a", "U8", shape + "]", 0, 1) + "}", "a")), "more than 64"));
}

TEST(SafetensorsReader, HugeTokenIsAnErrorBeforeItIsCopied) {
  const std::string header = "{\"" + std::string(kMaxJsonTokenBytes + 1, 'x') + "\":{}}";
  EXPECT_TRUE(has(parse_error(safetensors(header, "")), "token longer than"));
}

TEST(SafetensorsReader, NameWithControlCharactersIsEscapedInMessages) {
  EXPECT_TRUE(has(parse_error(safetensors("{" + entry("a\\u001b", "F4", "[1]", 0, 1) + "}", "a")), "a\\x1b"));
}

}  // namespace
}  // namespace ptq
