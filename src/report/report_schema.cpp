// The schema of report.json, by the declarations of its fields.
#include <type_traits>

#include "ptq/report/json_schema.h"
#include "report/fields.h"

namespace ptq {
namespace {

// The parts of every schema.
Json schema_of(const char* type, const About& about) {
  Json schema = Json::object();
  if (about.one_of.size() > 0) {
    for (const char* choice : about.one_of) schema["enum"].push_back(choice);
    if (about.or_null) schema["enum"].push_back(nullptr);
  } else {
    schema["type"] = about.or_null ? Json({type, "null"}) : Json(type);
  }
  if (about.text[0] != '\0') schema["description"] = about.text;
  return schema;
}

Json number_schema(const char* type, const About& about) {
  Json schema = schema_of(type, about);
  if (about.minimum) schema["minimum"] = *about.minimum;
  if (about.maximum) schema["maximum"] = *about.maximum;
  return schema;
}

// The same of what a list or an object holds.
About of_items(About about) {
  about.text = "";
  return about;
}

// Schemas by type. They are members so that each finds all others.
struct Describe {
  static Json value(const std::string&, const About& about) { return schema_of("string", about); }
  static Json value(double, const About& about) { return number_schema("number", about); }
  static Json value(int64_t, const About& about) { return number_schema("integer", about); }
  static Json value(uint64_t, const About& about) { return number_schema("integer", about); }

  static Json value(Version, const About&) { return {{"enum", {kReportSchemaVersion}}}; }

  static Json value(const Share<const double>&, About about) {
    about.minimum = 0;
    about.maximum = 1;
    about.or_null = true;
    return number_schema("number", about);
  }

  template <typename T>
  static Json value(const std::optional<T>&, About about) {
    about.or_null = true;
    return value(T(), about);
  }

  template <typename T>
  static Json value(const std::vector<T>&, const About& about) {
    Json schema = schema_of("array", about);
    schema["items"] = value(T(), of_items(about));
    return schema;
  }

  template <typename T>
  static Json value(const std::map<std::string, T>&, const About& about) {
    Json schema = schema_of("object", about);
    schema["additionalProperties"] = value(T(), of_items(about));
    return schema;
  }

  static Json value(const std::vector<std::pair<std::string, double>>&, const About& about) {
    return value(std::map<std::string, double>(), about);
  }

  template <typename J, typename Fields>
  static Json value(const Section<J, Fields>& section, const About& about) {
    return value(section.fields, about);
  }

  template <Row T>
  static Json value(const T& row, const About& about) {
    Json required = Json::array(), properties = Json::object();
    visit_fields(row, [&](const char* key, const auto& member, const About& of_member = {}) {
      if (of_member.required) required.push_back(key);
      properties[key] = value(member, of_member);
    });
    Json schema = schema_of("object", about);
    if constexpr (!requires { T::kOthersToo; }) schema["additionalProperties"] = false;
    schema["required"] = required;
    schema["properties"] = properties;
    return schema;
  }
};

}  // namespace

Json report_schema() {
  Json schema = {{"$schema", "http://json-schema.org/draft-07/schema#"},
                 {"title", "report.json of quantize"}};
  schema.update(Describe::value(
      Report(),
      {.text = "What one run did and what it cost. A value that is absent, or not finite, is null."}));
  return schema;
}

}  // namespace ptq
