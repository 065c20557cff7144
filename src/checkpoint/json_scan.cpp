#include "checkpoint/json_scan.h"

#include "checkpoint/bytes.h"
#include "ptq/base/error.h"

namespace ptq {
namespace {

// Whitespace between tokens counts as a token: the parser beneath copies that too. Commas and opening
// brackets are at least as many as values, but for one. Done before parsing because it is many times faster.
void check_limits(std::string_view text, const std::string& where) {
  size_t run = 0;
  size_t values = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    ++run;
    if (in_string && c == '\\') {
      ++i;
      ++run;
    } else if (c == '"') {
      in_string = !in_string;
      run = 0;
    } else if (!in_string && (c == ',' || c == ':' || c == '{' || c == '}' || c == '[' || c == ']')) {
      run = 0;
      values += c == ',' || c == '{' || c == '[' ? 1 : 0;
    }
    if (run > kMaxJsonTokenBytes) {
      throw Error(where, "a JSON token longer than " + std::to_string(kMaxJsonTokenBytes) +
                             " bytes at byte " + std::to_string(i));
    }
    if (values > kMaxJsonValues) {
      throw Error(where, "more than " + std::to_string(kMaxJsonValues) + " JSON values");
    }
  }
}

}  // namespace

bool JsonHandler::key(string_t& name) {
  frames_.back().key = std::move(name);
  key_seen();
  return true;
}

bool JsonHandler::parse_error(std::size_t position, const std::string&,
                              const nlohmann::detail::exception& error) {
  // The parser's message quotes the token, which may be long.
  throw Error(where_, "not valid JSON at byte " + std::to_string(position) + ": " + printable(error.what()));
}

bool JsonHandler::scalar(Json value_) {
  value(std::move(value_));
  return true;
}

bool JsonHandler::open(bool is_array) {
  if (frames_.size() >= max_depth_) {
    throw Error(where_, "JSON nested deeper than " + std::to_string(max_depth_) + " levels");
  }
  opened(is_array);
  frames_.push_back({"", is_array});
  return true;
}

bool JsonHandler::close() {
  frames_.pop_back();
  closed();
  return true;
}

void scan_json(std::string_view text, JsonHandler& handler, const std::string& where) {
  check_limits(text, where);
  Json::sax_parse(text.begin(), text.end(), &handler);
}

}  // namespace ptq
