// Small tokenizer.json documents, written in the test that uses them.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "ptq/base/error.h"
#include "ptq/base/json.h"
#include "ptq/tokenizer/tokenizer.h"

namespace ptq::tiny {

// A BPE model: ids count up from 0 in the order of `tokens`; a merge is "left right".
inline Json bpe(const std::vector<std::string>& tokens, const std::vector<std::string>& merges = {}) {
  Json vocab = Json::object();
  for (size_t i = 0; i < tokens.size(); ++i) vocab[tokens[i]] = i;
  return {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}};
}

inline Json document(Json model) {
  return {{"version", "1.0"}, {"model", std::move(model)}};
}

inline Json added(int64_t id, const std::string& content) {
  return {{"id", id}, {"content", content}, {"normalized", false}, {"special", true}};
}

inline std::unique_ptr<Tokenizer> load(const Json& document) {
  return Tokenizer::from_json(document.dump(), "tiny");
}

inline std::vector<int64_t> encode(const Json& document, const std::string& text) {
  return load(document)->encode(text, false);
}

// The tokens of `text`, which show more than their ids.
inline std::vector<std::string> tokens(const Json& document, const std::string& text) {
  std::vector<std::string> names;
  for (const int64_t id : encode(document, text)) {
    for (const auto& [token, token_id] : document["model"]["vocab"].items()) {
      if (token_id == id) names.push_back(token);
    }
  }
  return names;
}

// The Error that loading gives, or "" if it succeeds.
inline std::string error_of(const Json& document) {
  try {
    load(document);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

inline void expect_error(const Json& document, const std::string& part) {
  EXPECT_NE(error_of(document).find(part), std::string::npos) << "the error was: " << error_of(document);
}

using Ids = std::vector<int64_t>;
using Strings = std::vector<std::string>;

}  // namespace ptq::tiny
