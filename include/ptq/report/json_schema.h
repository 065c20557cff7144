// A validator of the part of JSON Schema (draft-07) that the schema of report.json is written in, and that
// schema.
#pragma once

#include <string>
#include <vector>

#include "ptq/base/json.h"

namespace ptq {

// Every way in which `value` breaks `schema`, as "path: what"; empty if it is valid. The keywords are type,
// properties, required, additionalProperties, items (one schema for all), enum, minimum and maximum; $schema,
// title and description say nothing about a value. Throws std::invalid_argument for any other keyword: a
// schema must not ask for what nobody checks.
std::vector<std::string> schema_errors(const Json& schema, const Json& value, const std::string& path = "$");

// The schema of report.json, made of the declarations of its fields. A test holds
// tools/report.schema.json equal to it.
Json report_schema();

}  // namespace ptq
