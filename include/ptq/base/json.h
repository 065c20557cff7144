// Strict JSON: what is read from outside is bounded and checked, what is written keeps its order.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "ptq/base/error.h"

namespace ptq {

// Objects keep the order in which keys were added, so that files we write are stable and readable.
using Json = nlohmann::ordered_json;

struct JsonLimits {
  size_t max_bytes = size_t{100} << 20;
  int max_depth = 64;
  size_t max_values = 20'000'000;  // scalars, arrays and objects together
};

// Parses one JSON document. Throws Error (naming `where` and the byte offset) on a syntax error, a duplicate
// key, invalid UTF-8, text after the document, or a limit exceeded. Memory is bounded by the limits.
Json parse_json(std::string_view text, const std::string& where, const JsonLimits& limits = {});

// Parses what Python's json module reads and writes, as the configurations of models are: Infinity, -Infinity
// and NaN are numbers, and of equal keys in one object the last counts, in the place of the first; each such
// key goes to `repeated` once. Throws Error as parse_json() does for anything else.
Json parse_python_json(std::string_view text, const std::string& where, const JsonLimits& limits,
                       std::vector<std::string>& repeated);

// The text of a document as Python writes it, with `indent` spaces a level. It is dump(indent), but for
// Infinity, -Infinity and NaN, of which dump() makes null.
std::string python_json_text(const Json& json, int indent);

// last_name() as JSON can hold it: bytes that are not UTF-8 become U+FFFD.
std::string file_label(const std::string& path);

// Read and parse a file; errors name the path.
Json read_json_file(const std::string& path, const JsonLimits& limits = {});
Json read_python_json_file(const std::string& path, const JsonLimits& limits,
                           std::vector<std::string>& repeated);

// An object whose every key must be asked for: finish() throws an Error, with a "did you mean", for a key
// nobody read. Getters throw an Error that names the full path ("recipe.steps[0].percentile") on a wrong
// type.
class JsonFields {
 public:
  // `object` must outlive the reader; throws unless it is an object.
  JsonFields(const Json& object, std::string path);

  bool has(const std::string& key);
  const Json& at(const std::string& key);  // throws if missing
  std::string string(const std::string& key, const std::string& fallback);
  int64_t integer(const std::string& key, int64_t fallback);  // 8.0 counts as 8
  // Throws for Infinity and NaN, in either spelling of transformers (Infinity, {"__float__": "Infinity"}).
  double number(const std::string& key, double fallback);
  bool boolean(const std::string& key, bool fallback);
  const std::string& path() const { return path_; }
  // The keys that were asked for, whether they are there or not.
  const std::set<std::string>& asked() const { return known_; }
  // kUsage if the user typed the object, kFailed if a file holds it.
  void finish(ExitCode code = ExitCode::kUsage) const;

 private:
  const Json& object_;
  std::string path_;
  std::set<std::string> known_;
};

}  // namespace ptq
