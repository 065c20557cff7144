#include "ptq/base/json.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "ptq/base/download.h"
#include "ptq/base/error.h"
#include "ptq/base/file.h"
#include "ptq/base/suggest.h"

namespace ptq {
namespace {

constexpr size_t kMaxRepeatedKeys = 1000;  // each is looked for among all keys of its object

// What a document in Python's dialect may have beyond JSON.
struct PythonDialect {
  std::map<size_t, double> special_numbers;  // by their place among the numbers of the document
  std::vector<std::string>& repeated;
};

// Builds a document while it counts: nlohmann's own DOM parser keeps the last of two equal keys without a
// word and has no limit on depth or size.
class Builder : public nlohmann::json_sax<Json> {
 public:
  // `python` is null for strict JSON.
  Builder(const std::string& where, const JsonLimits& limits, const PythonDialect* python)
      : where_(where), limits_(limits), python_(python) {}

  Json take() { return std::move(root_); }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add_number(value); }
  bool number_unsigned(number_unsigned_t value) override { return add_number(value); }
  bool number_float(number_float_t value, const string_t&) override { return add_number(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t&) override { return false; }

  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    is_repeated_ = !keys_.back().insert(name).second;
    if (is_repeated_) repeat(name);
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
    if (is_repeated_) {
      is_repeated_ = false;
      Json& earlier = object.find(key_)->second;
      earlier = std::move(value);
      return &earlier;
    }
    object.Container::emplace_back(key_, std::move(value));
    return &object.back().second;
  }

  void repeat(const std::string& name) {
    if (python_ == nullptr) throw Error(where_, "the key \"" + name + "\" occurs twice in one object");
    if (++num_repeated_ > kMaxRepeatedKeys) {
      throw Error(where_,
                  "more than " + std::to_string(kMaxRepeatedKeys) + " keys occur twice in one object");
    }
    std::vector<std::string>& said = python_->repeated;
    if (std::find(said.begin(), said.end(), name) == said.end()) said.push_back(name);
  }

  bool add_number(Json value) {
    const size_t place = num_numbers_++;
    if (python_ == nullptr) return add(std::move(value));
    const auto special = python_->special_numbers.find(place);
    return add(special == python_->special_numbers.end() ? std::move(value) : Json(special->second));
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
  const PythonDialect* python_;
  Json root_;
  std::vector<Json*> open_;
  std::vector<std::set<std::string>> keys_;
  std::string key_;
  bool is_repeated_ = false;  // key_
  size_t count_ = 0, num_numbers_ = 0, num_repeated_ = 0;
};

void check_start(std::string_view text, const std::string& where, const JsonLimits& limits) {
  if (text.size() > limits.max_bytes) {
    throw Error(where, "JSON of " + std::to_string(text.size()) + " bytes; at most " +
                           std::to_string(limits.max_bytes) + " are read");
  }
  if (const auto mistaken = mistaken_download(text)) {
    throw Error(where, mistaken->what + ", where a JSON document is due", mistaken->hint);
  }
}

Json build(std::string_view text, const std::string& where, const JsonLimits& limits,
           const PythonDialect* python) {
  Builder builder(where, limits, python);
  Json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

struct SpecialNumber {
  std::string_view text;
  double value;
};
constexpr SpecialNumber kSpecialNumbers[] = {{"Infinity", std::numeric_limits<double>::infinity()},
                                             {"-Infinity", -std::numeric_limits<double>::infinity()},
                                             {"NaN", std::numeric_limits<double>::quiet_NaN()}};

// One past the string that begins at `begin`.
size_t end_of_string(std::string_view text, size_t begin) {
  size_t at = begin + 1;
  while (at < text.size() && text[at] != '"') at += text[at] == '\\' ? 2 : 1;
  return std::min(at + 1, text.size());
}

// Replaces the special numbers by zeros of the same length, so that places in messages stay right, and
// returns where they were among the numbers. The counts agree with the parser's if the text can be parsed.
std::map<size_t, double> take_special_numbers(std::string& text) {
  constexpr std::string_view kOutside = " \t\r\n,:[]{}\"";
  std::map<size_t, double> found;
  size_t num_numbers = 0;
  for (size_t at = 0; at < text.size();) {
    if (text[at] == '"') {
      at = end_of_string(text, at);
      continue;
    }
    const size_t end = std::min(text.find_first_of(kOutside, at), text.size());
    if (end == at) {
      ++at;
      continue;
    }
    const std::string_view token = std::string_view(text).substr(at, end - at);
    for (const SpecialNumber& special : kSpecialNumbers) {
      if (token != special.text) continue;
      found[num_numbers] = special.value;
      text.replace(at, end - at, "0" + std::string(end - at - 1, ' '));
      break;
    }
    if (text[at] == '-' || (text[at] >= '0' && text[at] <= '9')) ++num_numbers;
    at = end;
  }
  return found;
}

std::string special_text(double value) {
  return std::isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity";
}

void add_python_text(const Json& json, int indent, int level, std::string& out) {
  if (json.is_number_float() && !std::isfinite(json.get<double>())) {
    out += special_text(json.get<double>());
    return;
  }
  if (!json.is_structured() || json.empty()) {
    out += json.dump();
    return;
  }
  const std::string line = "\n" + std::string(static_cast<size_t>(indent * (level + 1)), ' ');
  out += json.is_object() ? '{' : '[';
  const char* separator = "";
  for (const auto& [key, value] : json.items()) {
    out += separator + line;
    if (json.is_object()) out += Json(key).dump() + ": ";
    add_python_text(value, indent, level + 1, out);
    separator = ",";
  }
  out += "\n" + std::string(static_cast<size_t>(indent * level), ' ') + (json.is_object() ? '}' : ']');
}

}  // namespace

Json parse_json(std::string_view text, const std::string& where, const JsonLimits& limits) {
  check_start(text, where, limits);
  return build(text, where, limits, nullptr);
}

Json parse_python_json(std::string_view text, const std::string& where, const JsonLimits& limits,
                       std::vector<std::string>& repeated) {
  check_start(text, where, limits);
  std::string plain(text);
  const PythonDialect python{take_special_numbers(plain), repeated};
  return build(plain, where, limits, &python);
}

std::string python_json_text(const Json& json, int indent) {
  std::string text;
  add_python_text(json, indent, 0, text);
  return text;
}

std::string file_label(const std::string& path) {
  const Json name = last_name(path);
  return Json::parse(name.dump(-1, ' ', false, Json::error_handler_t::replace)).get<std::string>();
}

Json read_json_file(const std::string& path, const JsonLimits& limits) {
  return parse_json(read_file(path, limits.max_bytes), path, limits);
}

Json read_python_json_file(const std::string& path, const JsonLimits& limits,
                           std::vector<std::string>& repeated) {
  return parse_python_json(read_file(path, limits.max_bytes), path, limits, repeated);
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
  if (value.is_object() && value.size() == 1 && value.contains("__float__"))
    throw Error(path_ + "." + key, "expected a finite number, found " + value.front().dump());
  if (!value.is_number())
    throw Error(path_ + "." + key, std::string("expected a number, found ") + value.type_name());
  const auto number = value.get<double>();
  if (!std::isfinite(number))
    throw Error(path_ + "." + key, "expected a finite number, found " + special_text(number));
  return number;
}

bool JsonFields::boolean(const std::string& key, bool fallback) {
  if (!has(key)) return fallback;
  const Json& value = object_.at(key);
  if (!value.is_boolean()) {
    throw Error(path_ + "." + key, std::string("expected true or false, found ") + value.type_name());
  }
  return value.get<bool>();
}

void JsonFields::finish(ExitCode code) const {
  const std::vector<std::string> known(known_.begin(), known_.end());
  for (const auto& [key, value] : object_.items()) {
    if (!known_.contains(key)) throw Error(path_, "unknown key \"" + key + "\"", suggest(key, known), code);
  }
}

}  // namespace ptq
