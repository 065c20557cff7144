// llama.cpp's arrays as a tokenizer.json.
#include <algorithm>
#include <map>

#include "export/gguf/pre_tokenizers.h"
#include "export/gguf/tokenizer.h"
#include "ptq/base/error.h"

namespace ptq {
namespace {

constexpr size_t kMostTokenBytes = 1024;  // each place to cut a token is looked at
constexpr int64_t kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5;

template <typename T>
const T* find(const GgufFile& file, const char* key) {
  const auto found = file.metadata.find(std::string("tokenizer.ggml.") + key);
  return found == file.metadata.end() ? nullptr : std::get_if<T>(&found->second);
}

// The merges of a tokenizer with scores: a token can be made of two others in several ways, and is made of
// whichever comes first in the text; its score decides when. Of all pairs, sorted by the score of what they
// make.
Json merges_by_score(const std::vector<std::string>& tokens, const std::vector<float>& scores) {
  std::map<std::string, size_t> ids;
  for (size_t i = 0; i < tokens.size(); ++i) ids.emplace(tokens[i], i);
  std::vector<std::pair<float, size_t>> order;
  for (size_t i = 0; i < tokens.size(); ++i) order.emplace_back(-scores[i], i);
  std::stable_sort(order.begin(), order.end());
  Json merges = Json::array();
  for (const auto& [unused, i] : order) {
    const std::string& token = tokens[i];
    for (size_t cut = 1; cut < token.size(); ++cut) {
      if ((static_cast<unsigned char>(token[cut]) & 0xC0) == 0x80) continue;  // within a character
      const std::string left = token.substr(0, cut), right = token.substr(cut);
      if (ids.contains(left) && ids.contains(right)) merges.push_back({left, right});
    }
  }
  return merges;
}

Json added_token(const std::string& text, size_t id, bool special) {
  return {{"id", id},        {"content", text},     {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", special}};
}

// A template that puts BOS before a text.
Json bos_template(const std::string& bos, int64_t id) {
  const Json special = {{"SpecialToken", {{"id", bos}, {"type_id", 0}}}};
  const auto sequence = [](const char* name) { return Json{{"Sequence", {{"id", name}, {"type_id", 0}}}}; };
  return {{"type", "TemplateProcessing"},
          {"single", Json::array({special, sequence("A")})},
          {"pair", Json::array({special, sequence("A"), special, sequence("B")})},
          {"special_tokens", {{bos, {{"id", bos}, {"ids", {id}}, {"tokens", {bos}}}}}}};
}

// Puts the tokens where they belong: the vocabulary, or the added tokens.
void add_tokens(const std::vector<std::string>& tokens, const std::vector<int64_t>& types, Json& tokenizer) {
  Json vocabulary = Json::object(), added = Json::array();
  std::map<std::string, size_t> seen;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const int64_t type = i < types.size() ? types[i] : 1;
    if (type == kUnused || !seen.emplace(tokens[i], i).second) continue;
    // Keys are appended, not looked up: an ordered object would be searched for each.
    vocabulary.get_ref<Json::object_t&>().emplace_back(tokens[i], i);
    if (type == kControl || type == kUnknown || type == kUserDefined)
      added.push_back(added_token(tokens[i], i, type != kUserDefined));
    if (type == kUnknown) tokenizer["model"]["unk_token"] = tokens[i];
  }
  tokenizer["model"]["vocab"] = std::move(vocabulary);
  tokenizer["added_tokens"] = std::move(added);
}

}  // namespace

std::string tokenizer_json_of(const GgufFile& file, const std::string& where) {
  const auto* model = find<std::string>(file, "model");
  if (model == nullptr || *model == "no_vocab" || *model == "none") return "";
  const auto* tokens = find<std::vector<std::string>>(file, "tokens");
  const auto* types = find<std::vector<int64_t>>(file, "token_type");
  const auto* pre = find<std::string>(file, "pre");
  if (tokens == nullptr) throw Error(where, "has no tokenizer.ggml.tokens", "--tokenizer FILE");
  for (const std::string& token : *tokens) {
    if (token.size() > kMostTokenBytes)
      throw Error(where, "has a token of " + std::to_string(token.size()) + " bytes", "--tokenizer FILE");
  }
  Json tokenizer = tokenizer_of_kind(*model, pre == nullptr ? "default" : *pre, where);
  add_tokens(*tokens, types == nullptr ? std::vector<int64_t>() : *types, tokenizer);
  const auto* merges = find<std::vector<std::string>>(file, "merges");
  const auto* scores = find<std::vector<float>>(file, "scores");
  if (merges != nullptr) {
    tokenizer["model"]["merges"] = *merges;
  } else if (scores != nullptr && scores->size() == tokens->size()) {
    tokenizer["model"]["merges"] = merges_by_score(*tokens, *scores);
  } else {
    throw Error(where, "has neither merges nor scores of its tokens", "--tokenizer FILE");
  }
  const auto* adds_bos = find<bool>(file, "add_bos_token");
  const auto* bos = find<int64_t>(file, "bos_token_id");
  const bool begins = adds_bos != nullptr ? *adds_bos : *model == "llama";
  if (begins && bos != nullptr && *bos >= 0 && static_cast<size_t>(*bos) < tokens->size())
    tokenizer["post_processor"] = bos_template(tokens->at(static_cast<size_t>(*bos)), *bos);
  return tokenizer.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace ptq
