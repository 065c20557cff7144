#include "tokenizer/component.h"

#include "tokenizer/unicode.h"

namespace ptq {

std::string Component::required_string(const std::string& key) {
  at(key);
  return string(key, "");
}

bool Component::required_boolean(const std::string& key) {
  at(key);
  return boolean(key, false);
}

void Component::for_each_in(const std::string& key,
                            const std::function<void(const Json&, const std::string&)>& visit) {
  const Json& list = at(key);
  const std::string list_path = path() + "." + key;
  if (!list.is_array()) throw Error(list_path, std::string("expected an array, found ") + list.type_name());
  for (size_t i = 0; i < list.size(); ++i) visit(list[i], list_path + "[" + std::to_string(i) + "]");
}

char32_t Component::character(const std::string& key) {
  const std::string text = required_string(key);
  if (text.empty() || utf8_length(text[0]) != text.size()) {
    throw Error(path() + "." + key, "expected one character, found \"" + text + "\"");
  }
  return utf8_at(text, 0);
}

void Component::refuse_others() {
  try {
    finish();
  } catch (const Error& error) {
    // finish() speaks of what a user typed; this is a file's content.
    throw Error("", error.what());
  }
}

PrependScheme read_prepend_scheme(Component& json) {
  const std::string name = json.string("prepend_scheme", "always");
  PrependScheme scheme = PrependScheme::kAlways;
  if (name == "first") {
    scheme = PrependScheme::kFirst;
  } else if (name == "never") {
    scheme = PrependScheme::kNever;
  } else if (name != "always") {
    throw Error(json.path() + ".prepend_scheme", "unknown scheme \"" + name + "\"", "always, first or never");
  }
  if (!json.boolean("add_prefix_space", true)) {
    // Older files have this field alone.
    if (json.has("prepend_scheme") && scheme != PrependScheme::kNever) {
      throw Error(json.path(), "add_prefix_space is false but prepend_scheme is \"" + name + "\"");
    }
    scheme = PrependScheme::kNever;
  }
  return scheme;
}

}  // namespace ptq
