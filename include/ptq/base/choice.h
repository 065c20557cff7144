// Options that are one of some words.
#pragma once

#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "ptq/base/error.h"
#include "ptq/base/json.h"
#include "ptq/base/suggest.h"

namespace ptq {

// What the word of a string option stands for. Throws a usage Error for another word.
template <typename T>
T choice(JsonFields& options, const std::string& key, const T& fallback,
         std::initializer_list<std::pair<const char*, T>> values) {
  if (!options.has(key)) return fallback;
  const std::string word = options.string(key, "");
  std::vector<std::string> words;
  for (const auto& [name, value] : values) {
    if (word == name) return value;
    words.emplace_back(name);
  }
  throw usage_error(options.path() + "." + key, "\"" + word + "\" is not a value of this option",
                    suggest(word, words));
}

}  // namespace ptq
