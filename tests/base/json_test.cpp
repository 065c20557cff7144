#include "ptq/base/json.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

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

Json parse_python(const std::string& text) {
  std::vector<std::string> repeated;
  return parse_python_json(text, "t", {}, repeated);
}

TEST(ParsePythonJson, SpecialNumbersAreReadAndWrittenBack) {
  const std::string text =
      "{\n \"a\": [\n  1,\n  Infinity,\n  -Infinity,\n  \"NaN, Infinity \\\" NaN\",\n  -2.5,\n  NaN\n ]\n}";
  const Json json = parse_python(text);
  EXPECT_EQ(json["a"][0], 1);
  EXPECT_EQ(json["a"][1].get<double>(), std::numeric_limits<double>::infinity());
  EXPECT_EQ(json["a"][2].get<double>(), -std::numeric_limits<double>::infinity());
  EXPECT_EQ(json["a"][3], "NaN, Infinity \" NaN");
  EXPECT_EQ(json["a"][4], -2.5);
  EXPECT_TRUE(std::isnan(json["a"][5].get<double>()));
  EXPECT_EQ(python_json_text(json, 1), text);
}

TEST(ParsePythonJson, OrdinaryDocumentsAreThoseOfStrictJson) {
  const std::string text =
      R"({"b": [], "c": {}, "d": [[1, -2], {"x": null, "y": [true, "\u00e9\n"]}], "e": 1e-05, "f": 0.1})";
  EXPECT_EQ(parse_python(text), parse_json(text, "t"));
  for (const int indent : {1, 2})
    EXPECT_EQ(python_json_text(parse_python(text), indent), parse_json(text, "t").dump(indent));
}

TEST(ParsePythonJson, LastOfEqualKeysCountsInThePlaceOfTheFirst) {
  std::vector<std::string> repeated;
  const Json json =
      parse_python_json(R"({"a": 1, "b": {"c": 1, "c": [2, {"d": 3}]}, "a": 4, "a": 5})", "t", {}, repeated);
  EXPECT_EQ(json.dump(), R"({"a":5,"b":{"c":[2,{"d":3}]}})");
  EXPECT_EQ(repeated, (std::vector<std::string>{"c", "a"}));
}

TEST(ParsePythonJson, OtherWordsAreErrors) {
  for (const char* text :
       {"[Infinite]", "[+Infinity]", "[nan]", "[NaN NaN]", "[-NaN]", "{NaN: 1}", "[1e999]"})
    EXPECT_ERROR(parse_python(text), ExitCode::kFailed, "t: not valid JSON at byte");
}

TEST(ParseJson, DownloadsThatAreNoJsonAreNamedForWhatTheyAre) {
  EXPECT_ERROR(parse_json("version https://git-lfs.github.com/spec/v1\n", "f.json"), ExitCode::kFailed,
               "f.json: a Git LFS pointer");
  EXPECT_ERROR(parse_json("\n<!doctype HTML>", "f.json"), ExitCode::kFailed, "f.json: an HTML page");
}

TEST(JsonFields, NumbersThatAreNotFiniteAreErrors) {
  const Json json = parse_python(R"({"a": Infinity, "b": {"__float__": "NaN"}, "c": -Infinity})");
  JsonFields fields(json, "t");
  EXPECT_ERROR(fields.number("a", 0), ExitCode::kFailed, "t.a: expected a finite number, found Infinity");
  EXPECT_ERROR(fields.number("b", 0), ExitCode::kFailed, "t.b: expected a finite number, found \"NaN\"");
  EXPECT_ERROR(fields.integer("c", 0), ExitCode::kFailed, "t.c: expected a finite number, found -Infinity");
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
