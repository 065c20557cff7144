// Reads rows back from JSON, by the declarations of their fields.
#pragma once

#include <limits>

#include "ptq/base/error.h"
#include "report/fields.h"

namespace ptq {

// The member, which must be of this type if it is there; an empty one if it is not.
inline const Json& member(JsonFields& fields, const char* key, const Json& empty) {
  if (!fields.has(key)) return empty;
  const Json& value = fields.at(key);
  if (value.type() == empty.type()) return value;
  throw Error(fields.path() + "." + key,
              std::string("expected an ") + empty.type_name() + ", found " + value.type_name());
}
inline const Json& object_at(JsonFields& fields, const char* key) {
  static const Json empty = Json::object();
  return member(fields, key, empty);
}
inline const Json& array_at(JsonFields& fields, const char* key) {
  static const Json empty = Json::array();
  return member(fields, key, empty);
}

// In a document a field that is absent or null gives the member's default, or NaN if null stands for that;
// fields that are not declared are left alone. The exact form has all fields and no others. Throws Error,
// naming the place, for a value of a wrong type.
class FieldReader {
 public:
  explicit FieldReader(Form form) : form_(form) {}

  template <typename T>
  void read_fields(JsonFields& fields, T&& row) const {
    visit_fields(row, [&](const char* key, auto&& member, const About& about = {}) {
      read(fields, key, member, about);
    });
    if (form_ == Form::kExact) fields.finish();
  }

  template <Row T>
  void read(JsonFields& fields, const char* key, T& row, const About&) const {
    JsonFields members(object_at(fields, key), fields.path() + "." + key);
    read_fields(members, row);
  }

  template <typename T>
  void read(JsonFields& fields, const char* key, std::optional<T>& value, const About& about) const {
    value.reset();
    if (fields.has(key)) read(fields, key, value.emplace(), about);
  }

  template <typename T>
  void read(JsonFields& fields, const char* key, std::vector<T>& items, const About&) const {
    require(fields, key);
    items.clear();
    const std::string place = fields.path() + "." + key;
    for (const Json& item : array_at(fields, key)) {
      if constexpr (Row<T>) {
        JsonFields members(item, place + "[" + std::to_string(items.size()) + "]");
        read_fields(members, items.emplace_back());
      } else {
        read_item(item, place, items.emplace_back());
      }
    }
  }

  // check_version() has read it.
  void read(JsonFields&, const char*, Version, const About&) const {}

  template <typename Fields>
  void read(JsonFields& fields, const char* key, Section<Json, Fields>& section, const About&) const {
    section.json = object_at(fields, key);
    JsonFields members(section.json, fields.path() + "." + key);
    read_fields(members, section.fields);
  }

  void read(JsonFields& fields, const char* key, Share<double>& share, const About&) const {
    read(fields, key, share.relative_error, {});
  }

  void read(JsonFields& fields, const char* key, double& number, const About& about) const {
    require(fields, key);
    using Limits = std::numeric_limits<double>;
    if (form_ == Form::kExact && fields.at(key) == "nan") {
      number = Limits::quiet_NaN();
    } else if (form_ == Form::kExact && (fields.at(key) == "inf" || fields.at(key) == "-inf")) {
      number = fields.at(key) == "inf" ? Limits::infinity() : -Limits::infinity();
    } else {
      number = fields.number(key, about.or_null ? Limits::quiet_NaN() : number);
    }
  }

  void read(JsonFields& fields, const char* key, int64_t& number, const About&) const {
    require(fields, key);
    number = fields.integer(key, number);
  }

  // A seed, which may be larger than what JsonFields takes. Nobody asks for its value.
  void read(JsonFields& fields, const char* key, uint64_t&, const About&) const {
    if (!fields.has(key) || fields.at(key).is_number_integer()) return;
    throw Error(fields.path() + "." + key, "expected an integer, found " + fields.at(key).dump());
  }

  void read(JsonFields& fields, const char* key, std::string& text, const About&) const {
    require(fields, key);
    text = fields.string(key, text);
  }

  void read(JsonFields& fields, const char* key, std::map<std::string, int64_t>& numbers,
            const About&) const {
    const Json& object = object_at(fields, key);
    for (const auto& [name, number] : object.items())
      read_item(number, fields.path() + "." + key + "." + name, numbers[name]);
  }

  void read(JsonFields& fields, const char* key, std::map<std::string, std::string>& texts,
            const About&) const {
    const Json& object = object_at(fields, key);
    for (const auto& [name, text] : object.items()) {
      if (!text.is_string()) throw Error(fields.path() + "." + key + "." + name, "expected a string");
      texts[name] = text.get<std::string>();
    }
  }

  void read(JsonFields& fields, const char* key, std::vector<std::pair<std::string, double>>& times_ms,
            const About&) const {
    const Json& object = object_at(fields, key);
    for (const auto& [stage, elapsed_ms] : object.items()) {
      read_item(elapsed_ms, fields.path() + "." + key + "." + stage, times_ms.emplace_back(stage, 0).second);
    }
  }

 private:
  void require(JsonFields& fields, const char* key) const {
    if (form_ == Form::kExact) fields.at(key);
  }

  // Values without a search for their key, which would be quadratic over an object of a million members.
  template <typename T>
  void read_item(const Json& item, const std::string& place, T& value) const {
    const Json wrapped = {{"value", item}};
    JsonFields fields(wrapped, place);
    read(fields, "value", value, {});
  }
  void read_item(const Json& item, const std::string& place, std::string& text) const {
    if (!item.is_string()) throw Error(place, std::string("expected strings, found ") + item.type_name());
    text = item.get<std::string>();
  }

  Form form_;
};

}  // namespace ptq
