#include "ptq/base/json.h"

#include <cmath>
#include <filesystem>

#include "ptq/base/error.h"
#include "ptq/base/file.h"
#include "ptq/base/suggest.h"

namespace ptq {
namespace {

// Builds a document while it counts: nlohmann's own DOM parser keeps the last of two equal keys without a
// word and has no limit on depth or size.
class StrictBuilder : public nlohmann::json_sax<Json> {
 public:
  StrictBuilder(const std::string& where, const JsonLimits& limits) : where_(where), limits_(limits) {}

  Json take() { return std::move(root_); }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t&) override { return false; }

  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    if (!keys_.back().insert(name).second)
      throw Error(where_, "the key \"" + name + "\" occurs twice in one object");
    key_ = name;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    throw Error(where_, "not valid JSON at byte " + std::to_string(position) + ": " + error.what());
  }

 private:
  Json* place(Json value) {
    if (++count_ > limits_.max_values) {
      throw Error(where_, "more than " + std::to_string(limits_.max_values) + " JSON values");
    }
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    // push_back on the underlying vector: operator[] of an ordered object searches all keys, which is
    // quadratic for the 50,000 entries of a vocabulary. key() has already refused duplicates.
    auto& object = parent.get_ref<Json::object_t&>();
    object.Container::emplace_back(key_, std::move(value));
    return &object.back().second;
  }

  bool add(Json value) {
    place(std::move(value));
    return true;
  }

  bool open(Json container) {
    if (static_cast<int>(open_.size()) >= limits_.max_depth) {
      throw Error(where_, "JSON nested deeper than " + std::to_string(limits_.max_depth) + " levels");
    }
    open_.push_back(place(std::move(container)));
    keys_.emplace_back();
    return true;
  }

  bool close() {
    open_.pop_back();
    keys_.pop_back();
    return true;
  }

  const std::string& where_;
  const JsonLimits& limits_;
  Json root_;
  std::vector<Json*> open_;
  std::vector<std::set<std::string>> keys_;
  std::string key_;
  size_t count_ = 0;
};

}  // namespace

Json parse_json(std::string_view text, const std::string& where, const JsonLimits& limits) {
  if (text.size() > limits.max_bytes) {
    throw Error(where, "JSON of " + std::to_string(text.size()) + " bytes; at most " +
                           std::to_string(limits.max_bytes) + " are read");
  }
  StrictBuilder builder(where, limits);
  Json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

std::string file_label(const std::string& path) {
  const Json name = std::filesystem::path(path).filename().string();
  return Json::parse(name.dump(-1, ' ', false, Json::error_handler_t::replace)).get<std::string>();
}

Json read_json_file(const std::string& path, const JsonLimits& limits) {
  return parse_json(read_file(path, limits.max_bytes), path, limits);
}

JsonFields::JsonFields(const Json& object, std::string path) : object_(object), path_(std::move(path)) {
  if (!object.is_object()) throw Error(path_, std::string("expected an object, found ") + object.type_name());
}

bool JsonFields::has(const std::string& key) {
  known_.insert(key);
  return object_.contains(key) && !object_.at(key).is_null();
}

const Json& JsonFields::at(const std::string& key) {
  if (!has(key)) throw Error(path_, "\"" + key + "\" is missing");
  return object_.at(key);
}

std::string JsonFields::string(const std::string& key, const std::string& fallback) {
  if (!has(key)) return fallback;
  const Json& value = object_.at(key);
  if (!value.is_string())
    throw Error(path_ + "." + key, std::string("expected a string, found ") + value.type_name());
  return value.get<std::string>();
}

int64_t JsonFields::integer(const std::string& key, int64_t fallback) {
  if (!has(key)) return fallback;
  const double value = number(key, 0);
  if (value != std::floor(value) || std::abs(value) > 9e15) {
    throw Error(path_ + "." + key, "expected an integer, found " + object_.at(key).dump());
  }
  return static_cast<int64_t>(value);
}

double JsonFields::number(const std::string& key, double fallback) {
  if (!has(key)) return fallback;
  const Json& value = object_.at(key);
  if (!value.is_number())
    throw Error(path_ + "." + key, std::string("expected a number, found ") + value.type_name());
  return value.get<double>();
}

bool JsonFields::boolean(const std::string& key, bool fallback) {
  if (!has(key)) return fallback;
  const Json& value = object_.at(key);
  if (!value.is_boolean()) {
    throw Error(path_ + "." + key, std::string("expected true or false, found ") + value.type_name());
  }
  return value.get<bool>();
}

void JsonFields::finish() const {
  const std::vector<std::string> known(known_.begin(), known_.end());
  for (const auto& [key, value] : object_.items()) {
    if (!known_.contains(key)) throw usage_error(path_, "unknown key \"" + key + "\"", suggest(key, known));
  }
}

}  // namespace ptq
