// The validator itself: each keyword accepts and rejects.
#include "ptq/report/json_schema.h"

#include <gtest/gtest.h>

#include <stdexcept>

namespace ptq::testing {
namespace {

bool valid(const char* schema, const char* value) {
  return schema_errors(parse_json(schema, "schema"), parse_json(value, "value")).empty();
}

TEST(JsonSchema, TypeIsOneNameOrAListOfThem) {
  EXPECT_TRUE(valid(R"({"type": "string"})", R"("a")"));
  EXPECT_FALSE(valid(R"({"type": "string"})", "1"));
  EXPECT_TRUE(valid(R"({"type": ["number", "null"]})", "null"));
  EXPECT_TRUE(valid(R"({"type": ["number", "null"]})", "1.5"));
  EXPECT_FALSE(valid(R"({"type": ["number", "null"]})", "[]"));
  EXPECT_TRUE(valid(R"({"type": "integer"})", "3.0"));
  EXPECT_FALSE(valid(R"({"type": "integer"})", "3.5"));
  EXPECT_FALSE(valid(R"({"type": "boolean"})", "0"));
  EXPECT_THROW(valid(R"({"type": "float"})", "1"), std::invalid_argument);
}

TEST(JsonSchema, RequiredFieldsMustBeThere) {
  const char* schema = R"({"required": ["a"]})";
  EXPECT_TRUE(valid(schema, R"({"a": null})"));
  EXPECT_FALSE(valid(schema, R"({"b": 1})"));
}

TEST(JsonSchema, AdditionalPropertiesAreRefusedOrChecked) {
  EXPECT_TRUE(valid(R"({"properties": {"a": {}}, "additionalProperties": false})", R"({"a": 1})"));
  EXPECT_FALSE(valid(R"({"properties": {"a": {}}, "additionalProperties": false})", R"({"b": 1})"));
  EXPECT_TRUE(valid(R"({"additionalProperties": {"type": "integer"}})", R"({"b": 1})"));
  EXPECT_FALSE(valid(R"({"additionalProperties": {"type": "integer"}})", R"({"b": "x"})"));
  EXPECT_TRUE(valid(R"({"properties": {"a": {}}})", R"({"b": 1})"));
}

TEST(JsonSchema, ItemsAreCheckedOneByOne) {
  EXPECT_TRUE(valid(R"({"items": {"minimum": 1}})", "[1, 2]"));
  const auto errors = schema_errors(parse_json(R"({"items": {"minimum": 1}})", "s"), Json({1, 0}));
  ASSERT_EQ(errors.size(), 1U);
  EXPECT_EQ(errors[0], "$[1]: 0 is less than 1");
}

TEST(JsonSchema, EnumComparesValues) {
  EXPECT_TRUE(valid(R"({"enum": ["a", null, 1]})", "null"));
  EXPECT_FALSE(valid(R"({"enum": ["a", null, 1]})", R"("b")"));
}

TEST(JsonSchema, KeywordNobodyChecksIsAnError) {
  EXPECT_THROW(valid(R"({"multipleOf": 1})", "1"), std::invalid_argument);
}

}  // namespace
}  // namespace ptq::testing
