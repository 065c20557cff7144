#include "export/gguf/tokenizer.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>

#include "export/gguf/pre_tokenizers.h"
#include "ptq/base/error.h"
#include "ptq/base/file.h"

namespace ptq {
namespace {

constexpr char kAdvice[] = "--tokenizer none: llama.cpp then takes token ids only";
constexpr float kNoMerge = -1e6F;  // the score of a piece that no merge makes

// tokenizer.ggml.token_type.
enum TokenType : int32_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

struct Tokens {
  std::vector<std::string> texts;
  std::vector<int32_t> types;

  void set(const std::string& text, int64_t id, int32_t type, const std::string& where, int64_t rows) {
    if (id < 0 || id >= rows) {
      throw Error(where,
                  "has the token id " + std::to_string(id) + "; the model's embedding has " +
                      std::to_string(rows) + " rows, and llama.cpp wants as many tokens",
                  kAdvice);
    }
    texts[static_cast<size_t>(id)] = text;
    types[static_cast<size_t>(id)] = type;
  }
};

bool is_byte_token(const std::string& token) {
  return token.size() == 6 && token.starts_with("<0x") && token.ends_with('>');
}

Tokens tokens_of(const Json& tokenizer, int64_t rows, const std::string& where) {
  Tokens tokens;
  for (int64_t i = 0; i < rows; ++i) tokens.texts.push_back("[PAD" + std::to_string(i) + "]");
  tokens.types.assign(static_cast<size_t>(rows), kUnused);
  const Json& model = tokenizer.at("model");
  const bool has_bytes = model.value("byte_fallback", false);
  for (const auto& [token, id] : model.at("vocab").items())
    tokens.set(token, id.get<int64_t>(), has_bytes && is_byte_token(token) ? kByte : kNormal, where, rows);
  const Json unknown = model.value("unk_token", Json());
  if (!tokenizer.contains("added_tokens")) return tokens;
  for (const Json& added : tokenizer.at("added_tokens")) {
    const int32_t type = !added.value("special", false)   ? kUserDefined
                         : added.at("content") == unknown ? kUnknown
                                                          : kControl;
    tokens.set(added.at("content").get<std::string>(), added.at("id").get<int64_t>(), type, where, rows);
  }
  return tokens;
}

// "left right" of each merge.
std::vector<std::string> merges_of(const Json& model) {
  std::vector<std::string> merges;
  for (const Json& merge : model.at("merges")) {
    merges.push_back(merge.is_array() ? merge.at(0).get<std::string>() + " " + merge.at(1).get<std::string>()
                                      : merge.get<std::string>());
  }
  return merges;
}

// A piece's rank in the merges, negated: llama.cpp merges the pair of the highest score first.
std::vector<float> scores_of(const Tokens& tokens, const std::vector<std::string>& merges) {
  std::map<std::string, float> ranks;
  for (size_t i = 0; i < merges.size(); ++i) {
    std::string piece = merges[i];
    piece.erase(piece.find(' '), 1);
    ranks.emplace(piece, -static_cast<float>(i));
  }
  std::vector<float> scores;
  for (size_t i = 0; i < tokens.texts.size(); ++i) {
    const auto found = ranks.find(tokens.texts[i]);
    const bool has_score = tokens.types[i] == kNormal;
    scores.push_back(!has_score ? 0 : found == ranks.end() ? kNoMerge : found->second);
  }
  return scores;
}

std::optional<uint32_t> token_id(const Json& config, const char* key) {
  Json value = config.value(key, Json());
  if (value.is_array() && !value.empty()) value = value[0];
  if (!value.is_number_integer() || value.get<int64_t>() < 0) return {};
  return static_cast<uint32_t>(value.get<int64_t>());
}

// Whether the template of tokenizer.json puts a token before the text.
bool begins_with_special(const Json& tokenizer) {
  const Json post = tokenizer.value("post_processor", Json());
  if (!post.is_object()) return false;
  if (post.value("type", "") == "Sequence" && post.contains("processors")) {
    return std::ranges::any_of(post.at("processors"), [](const Json& each) {
      return begins_with_special({{"post_processor", each}});
    });
  }
  return post.contains("single") && post.at("single").is_array() && !post.at("single").empty() &&
         post.at("single")[0].contains("SpecialToken");
}

// The chat template beside the tokenizer; "" if there is none.
std::string chat_template(const std::filesystem::path& directory) {
  std::error_code failed;
  const std::filesystem::path file = directory / "chat_template.jinja";
  if (std::filesystem::is_regular_file(file, failed)) return read_file(file.string(), size_t{1} << 24);
  const std::filesystem::path config = directory / "tokenizer_config.json";
  if (!std::filesystem::is_regular_file(config, failed)) return "";
  std::vector<std::string> repeated;
  const Json json = read_python_json_file(config.string(), {}, repeated);
  const Json text = json.is_object() ? json.value("chat_template", Json()) : Json();
  return text.is_string() ? text.get<std::string>() : "";
}

void add_ids(const Json& config, GgufMetadata& metadata) {
  const std::pair<const char*, const char*> ids[] = {{"bos_token_id", "tokenizer.ggml.bos_token_id"},
                                                     {"eos_token_id", "tokenizer.ggml.eos_token_id"},
                                                     {"pad_token_id", "tokenizer.ggml.padding_token_id"}};
  for (const auto& [own, key] : ids) {
    if (const auto id = token_id(config, own)) metadata.add(key, *id);
  }
}

void add_tokenizer(const Json& tokenizer, const GgufKind& kind, const Json& config, int64_t rows,
                   const std::string& where, GgufMetadata& metadata) {
  const Tokens tokens = tokens_of(tokenizer, rows, where);
  const std::vector<std::string> merges = merges_of(tokenizer.at("model"));
  const bool by_scores = kind.model == std::string("llama");
  metadata.add("tokenizer.ggml.model", kind.model);
  metadata.add("tokenizer.ggml.pre", kind.pre);
  metadata.add("tokenizer.ggml.tokens", tokens.texts);
  if (by_scores) metadata.add("tokenizer.ggml.scores", scores_of(tokens, merges));
  metadata.add("tokenizer.ggml.token_type", tokens.types);
  if (!by_scores) metadata.add("tokenizer.ggml.merges", merges);
  add_ids(config, metadata);
  metadata.add("tokenizer.ggml.add_bos_token", begins_with_special(tokenizer));
  if (by_scores) metadata.add("tokenizer.ggml.add_space_prefix", true);
}

}  // namespace

GgufTokenizer gguf_tokenizer(const std::string& directory, const Json& config, int64_t rows, bool wanted) {
  GgufTokenizer made;
  const std::filesystem::path folder(directory);
  const std::string path = (folder / "tokenizer.json").string();
  std::error_code failed;
  if (!wanted || !std::filesystem::exists(path, failed)) {
    made.model = "no_vocab";
    made.metadata.add("tokenizer.ggml.model", made.model);
    made.notes.emplace_back(wanted ? "there is no tokenizer.json: the file has no tokenizer"
                                   : "without a tokenizer, as --tokenizer none says");
    return made;
  }
  const Json tokenizer = read_json_file(path);
  try {
    const GgufKind kind = gguf_kind(tokenizer, path);
    made.model = kind.model;
    add_tokenizer(tokenizer, kind, config, rows, path, made.metadata);
    if (kind.without_nfc)
      made.notes.emplace_back("llama.cpp does not apply the tokenizer's NFC: combining characters differ");
  } catch (const Json::exception& error) {
    throw Error(path, std::string("is not read as a tokenizer: ") + error.what(), kAdvice);
  }
  if (const std::string text = chat_template(folder); !text.empty())
    made.metadata.add("tokenizer.chat_template", text);
  return made;
}

}  // namespace ptq
