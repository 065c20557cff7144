#include "ptq/report/json_schema.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace ptq {
namespace {

using Errors = std::vector<std::string>;

bool has_type(const Json& value, const std::string& type) {
  if (type == "object") return value.is_object();
  if (type == "array") return value.is_array();
  if (type == "string") return value.is_string();
  if (type == "boolean") return value.is_boolean();
  if (type == "null") return value.is_null();
  if (type == "number") return value.is_number();
  if (type == "integer") return value.is_number() && std::floor(value.get<double>()) == value.get<double>();
  throw std::invalid_argument("schema: unknown type " + type);
}

void check_type(const Json& types, const Json& value, const std::string& path, Errors& errors) {
  const Json list = types.is_array() ? types : Json::array({types});
  const bool fits = std::any_of(list.begin(), list.end(),
                                [&](const Json& type) { return has_type(value, type.get<std::string>()); });
  if (!fits) errors.push_back(path + ": " + value.type_name() + " where " + types.dump() + " is wanted");
}

void check_enum(const Json& allowed, const Json& value, const std::string& path, Errors& errors) {
  const bool found = std::find(allowed.begin(), allowed.end(), value) != allowed.end();
  if (!found) errors.push_back(path + ": " + value.dump() + " is not one of " + allowed.dump());
}

void append(Errors& errors, const Errors& more) {
  errors.insert(errors.end(), more.begin(), more.end());
}

void check_members(const Json& schema, const Json& value, const std::string& path, Errors& errors) {
  const Json properties = schema.value("properties", Json::object());
  const Json others = schema.value("additionalProperties", Json(true));
  for (const auto& [key, member] : value.items()) {
    const std::string place = path + "." + key;
    if (properties.contains(key)) {
      append(errors, schema_errors(properties.at(key), member, place));
    } else if (others == Json(false)) {
      errors.push_back(place + ": unknown field");
    } else if (others.is_object()) {
      append(errors, schema_errors(others, member, place));
    }
  }
  for (const Json& key : schema.value("required", Json::array())) {
    if (!value.contains(key.get<std::string>())) errors.push_back(path + ": " + key.dump() + " is missing");
  }
}

void expect_known_keywords(const Json& schema) {
  static const std::vector<std::string> known = {
      "$schema", "title", "description", "type",   "properties", "required", "additionalProperties",
      "items",   "enum",  "minimum",     "maximum"};
  for (const auto& [key, value] : schema.items()) {
    if (std::find(known.begin(), known.end(), key) == known.end())
      throw std::invalid_argument("schema: unknown keyword " + key);
  }
}

}  // namespace

std::vector<std::string> schema_errors(const Json& schema, const Json& value, const std::string& path) {
  expect_known_keywords(schema);
  Errors errors;
  if (schema.contains("type")) check_type(schema.at("type"), value, path, errors);
  if (schema.contains("enum")) check_enum(schema.at("enum"), value, path, errors);
  if (schema.contains("minimum") && value.is_number() &&
      value.get<double>() < schema.at("minimum").get<double>()) {
    errors.push_back(path + ": " + value.dump() + " is less than " + schema.at("minimum").dump());
  }
  if (schema.contains("maximum") && value.is_number() &&
      value.get<double>() > schema.at("maximum").get<double>()) {
    errors.push_back(path + ": " + value.dump() + " is more than " + schema.at("maximum").dump());
  }
  if (value.is_object()) check_members(schema, value, path, errors);
  if (value.is_array() && schema.contains("items")) {
    for (size_t i = 0; i < value.size(); ++i)
      append(errors, schema_errors(schema.at("items"), value[i], path + "[" + std::to_string(i) + "]"));
  }
  return errors;
}

}  // namespace ptq
