// One component of tokenizer.json: an object with a "type" and fields that are all known.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ptq/base/error.h"
#include "ptq/base/json.h"
#include "ptq/base/suggest.h"

namespace ptq {

class Component : public JsonFields {
 public:
  using JsonFields::JsonFields;

  // Fields without a default. Throw Error if the field is absent, null or of another type.
  std::string required_string(const std::string& key);
  bool required_boolean(const std::string& key);
  // Calls visit(element, path) for every element of the array `key`.
  void for_each_in(const std::string& key, const std::function<void(const Json&, const std::string&)>& visit);
  // A field that must be a string of one character.
  char32_t character(const std::string& key);
  // Throws Error for a field that nobody asked for.
  void refuse_others();
};

// What to do where a tokenizer has a part that is not known.
inline constexpr std::string_view kIdsNeedNoTokenizer =
    "or token ids from a .npy file, made by the model's own tokenizer: they need none here";

// Metaspace, as pre-tokenizer and decoder: whether a mark is put in front of text that has none.
enum class PrependScheme { kNever, kFirst, kAlways };
PrependScheme read_prepend_scheme(Component& json);

// A row of a table of components: what "type" says and what makes one.
template <typename Made>
struct ComponentKind {
  std::string_view type;
  Made (*make)(Component& json);
};

// Makes the component that `json` describes by the table. A JSON null makes a null.
template <typename Made>
Made make_component(const Json& json, const std::string& where, const std::string& what,
                    std::span<const ComponentKind<Made>> kinds) {
  if (json.is_null()) return Made();
  Component component(json, where);
  const std::string type = component.required_string("type");
  for (const ComponentKind<Made>& kind : kinds) {
    if (kind.type != type) continue;
    Made made = kind.make(component);
    component.refuse_others();
    return made;
  }
  std::vector<std::string> known;
  for (const ComponentKind<Made>& kind : kinds) known.emplace_back(kind.type);
  throw Error(where, "unknown " + what + " \"" + type + "\"",
              suggest(type, known) + "; " + std::string(kIdsNeedNoTokenizer));
}

}  // namespace ptq
