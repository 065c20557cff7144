#include "ptq/base/json.h"

#include <gtest/gtest.h>

#include "expect_error.h"
#include "temp_directory.h"

namespace ptq {
namespace {

TEST(ParseJson, KeysKeepTheirOrder) {
  EXPECT_EQ(parse_json(R"({"b": 1, "a": [true, null, -2, 1.5, "x"]})", "t").dump(),
            R"({"b":1,"a":[true,null,-2,1.5,"x"]})");
}

TEST(ParseJson, ValuesOfNestedContainersGoToTheirOwnParent) {
  const std::string text = R"([{"a":[[1],{"b":{}}],"c":2},3])";
  EXPECT_EQ(parse_json(text, "t").dump(), text);
}

TEST(ParseJson, LargeIntegersAreExact) {
  EXPECT_EQ(parse_json("[9007199254740993]", "t")[0].get<int64_t>(), 9007199254740993);
}

TEST(ParseJson, DuplicateKeyIsAnError) {
  EXPECT_ERROR(parse_json(R"({"a": 1, "a": 2})", "f.json"), ExitCode::kFailed,
               "f.json: the key \"a\" occurs twice");
}

TEST(ParseJson, SameKeyInTwoObjectsIsFine) {
  EXPECT_NO_THROW(parse_json(R"({"a": {"a": 1}, "b": {"a": 2}})", "t"));
}

TEST(ParseJson, MalformedTextIsAnErrorWithItsOffset) {
  for (const char* text :
       {"", "{", "[1,]", "{\"a\" 1}", "nul", "1 2", "{} x", "'a'", "[01]", "NaN", "[1e999]"}) {
    EXPECT_ERROR(parse_json(text, "f.json"), ExitCode::kFailed, "f.json: not valid JSON at byte");
  }
}

TEST(ParseJson, InvalidUtf8IsAnError) {
  EXPECT_ERROR(parse_json("[\"\xff\"]", "t"), ExitCode::kFailed, "not valid JSON");
}

TEST(ParseJson, DepthOverTheLimitIsAnError) {
  EXPECT_NO_THROW(parse_json(std::string(64, '[') + std::string(64, ']'), "t"));
  EXPECT_ERROR(parse_json(std::string(65, '[') + std::string(65, ']'), "t"), ExitCode::kFailed,
               "deeper than 64");
}

TEST(ParseJson, ManyLevelsDoNotOverflowTheStack) {
  EXPECT_ERROR(parse_json(std::string(5'000'000, '['), "t"), ExitCode::kFailed, "deeper");
}

TEST(ParseJson, SizeOrCountOverTheLimitIsAnError) {
  EXPECT_ERROR(parse_json("[1, 2]", "t", {.max_bytes = 5}), ExitCode::kFailed, "JSON of 6 bytes; at most 5");
  EXPECT_ERROR(parse_json("[1, 2]", "t", {.max_values = 2}), ExitCode::kFailed, "more than 2 JSON values");
}

TEST(ReadJsonFile, ErrorNamesThePath) {
  const TempDirectory temp;
  const std::string path = temp.write("a.json", "{");
  EXPECT_ERROR(read_json_file(path), ExitCode::kFailed, path);
  EXPECT_ERROR(read_json_file(temp / "none"), ExitCode::kFailed, "cannot open");
}

TEST(JsonFields, UnknownKeyIsAUsageErrorWithASuggestion) {
  const Json json = parse_json(R"({"percentlie": 1})", "t");
  JsonFields fields(json, "recipe.steps[0]");
  EXPECT_EQ(fields.number("percentile", 0.5), 0.5);
  EXPECT_ERROR(fields.finish(), ExitCode::kUsage,
               "recipe.steps[0]: unknown key \"percentlie\"\n  try: did you mean \"percentile\"?");
}

TEST(JsonFields, EveryKeyReadIsFine) {
  const Json json = parse_json(R"({"s": "x", "i": 8.0, "n": 1, "b": true, "z": null})", "t");
  JsonFields fields(json, "t");
  EXPECT_EQ(fields.string("s", ""), "x");
  EXPECT_EQ(fields.integer("i", 0), 8);
  EXPECT_EQ(fields.number("n", 0), 1.0);
  EXPECT_TRUE(fields.boolean("b", false));
  EXPECT_EQ(fields.integer("z", 7), 7);
  EXPECT_NO_THROW(fields.finish());
}

TEST(JsonFields, WrongTypesAreErrorsWithThePath) {
  const Json json = parse_json(R"({"a": "x", "b": 1.5, "c": 1})", "t");
  JsonFields fields(json, "t");
  EXPECT_ERROR(fields.integer("a", 0), ExitCode::kFailed, "t.a: expected a number, found string");
  EXPECT_ERROR(fields.integer("b", 0), ExitCode::kFailed, "t.b: expected an integer, found 1.5");
  EXPECT_ERROR(fields.string("c", ""), ExitCode::kFailed, "t.c: expected a string, found number");
  EXPECT_ERROR(fields.boolean("c", false), ExitCode::kFailed, "t.c: expected true or false");
  EXPECT_ERROR(fields.at("d"), ExitCode::kFailed, "t: \"d\" is missing");
}

TEST(JsonFields, IntegerBeyondDoublePrecisionIsAnError) {
  const Json json = parse_json(R"({"a": 1e300, "b": 9223372036854775807})", "t");
  JsonFields fields(json, "t");
  EXPECT_ERROR(fields.integer("a", 0), ExitCode::kFailed, "expected an integer");
  EXPECT_ERROR(fields.integer("b", 0), ExitCode::kFailed, "expected an integer");
}

TEST(JsonFields, AnythingButAnObjectIsAnError) {
  const Json json = parse_json("[1]", "t");
  EXPECT_ERROR(JsonFields(json, "t"), ExitCode::kFailed, "expected an object, found array");
}

}  // namespace
}  // namespace ptq
