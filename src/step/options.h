// Reading the options of steps.
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

// Tokens to gather at a site.
inline int64_t samples_option(JsonFields& options, int64_t fallback) {
  const int64_t samples = options.integer("samples", fallback);
  if (samples < 1 || samples > (1 << 20)) {
    throw usage_error(options.path() + ".samples", std::to_string(samples) + " is outside 1 to 1048576");
  }
  return samples;
}

inline int bits_option(JsonFields& options, int fallback, int low, int high) {
  const int64_t bits = options.integer("bits", fallback);
  if (bits < low || bits > high) {
    throw usage_error(options.path() + ".bits", std::to_string(bits) + " bits; " + std::to_string(low) +
                                                    " to " + std::to_string(high) + " are supported");
  }
  return static_cast<int>(bits);
}

}  // namespace ptq
