// Tokenizers as llama.cpp's arrays and back: the same ids, or a refusal.
#include <gtest/gtest.h>

#include "../base/expect_error.h"
#include "../base/temp_directory.h"
#include "export/gguf/pre_tokenizers.h"
#include "export/gguf/tokenizer.h"
#include "ptq/base/file.h"
#include "ptq/tokenizer/tokenizer.h"

namespace ptq {
namespace {

class GgufTokenizers : public ::testing::Test {
 protected:
  // The arrays of a tokenizer, as they are read from a file.
  GgufFile arrays(const std::string& tokenizer, int64_t rows, const Json& config = Json::object()) const {
    directory_.write("tokenizer.json", tokenizer);
    const GgufTokenizer made = gguf_tokenizer(directory_.path(), config, rows, /*wanted=*/true);
    std::filesystem::remove(directory_ / "x.gguf");
    GgufWriter writer(directory_ / "x.gguf", made.metadata, {});
    writer.commit();
    const std::string text = directory_.read("x.gguf");
    return parse_gguf(std::as_bytes(std::span(text)), text.size(), "x.gguf");
  }
  const TempDirectory directory_;
};

// Llama 2's kind, of a few words.
Json fallback_tokenizer() {
  Json tokenizer = tokenizer_of_kind("llama", "default", "test");
  Json vocabulary = {{"<unk>", 0}, {"<s>", 1}, {"</s>", 2}};
  for (int i = 0; i < 256; ++i) {
    char name[8];
    std::snprintf(name, sizeof(name), "<0x%02X>", static_cast<unsigned>(i));
    vocabulary[name] = 3 + i;
  }
  int64_t id = 259;
  for (const char* token : {"▁", "a", "b", "n", "▁a", "an", "▁an", "▁b", "ana", "nan"})
    vocabulary[token] = id++;
  tokenizer["model"]["vocab"] = vocabulary;
  for (const char* merge : {"▁ a", "a n", "▁a n", "▁ b", "an a", "n an"})
    tokenizer["model"]["merges"].push_back(merge);
  tokenizer["model"]["unk_token"] = "<unk>";
  tokenizer["added_tokens"] = Json::array();
  for (const char* token : {"<unk>", "<s>", "</s>"}) {
    tokenizer["added_tokens"].push_back({{"id", vocabulary[token]},
                                         {"content", token},
                                         {"single_word", false},
                                         {"lstrip", false},
                                         {"rstrip", false},
                                         {"normalized", false},
                                         {"special", true}});
  }
  return tokenizer;
}

TEST_F(GgufTokenizers, ByteLevelGivesTheSameIds) {
  const std::string json = read_file(PTQ_TEST_DIR "/../data/llama-1m/tokenizer.json");
  const GgufFile file = arrays(json, 2050, {{"bos_token_id", 0}, {"eos_token_id", {0, 1}}});
  EXPECT_EQ(std::get<std::string>(file.metadata.at("tokenizer.ggml.model")), "gpt2");
  EXPECT_EQ(std::get<std::string>(file.metadata.at("tokenizer.ggml.pre")), "gpt-2");
  EXPECT_EQ(std::get<int64_t>(file.metadata.at("tokenizer.ggml.eos_token_id")), 0);
  const auto& types = std::get<std::vector<int64_t>>(file.metadata.at("tokenizer.ggml.token_type"));
  ASSERT_EQ(types.size(), 2050U);
  EXPECT_EQ(types[0], 3);  // <|endoftext|>
  EXPECT_EQ(types[5], 1);
  EXPECT_EQ(types[2049], 5);  // a row of the embedding without a token
  EXPECT_EQ(std::get<bool>(file.metadata.at("tokenizer.ggml.add_bos_token")), false);
  const auto whole = Tokenizer::from_json(json, "whole");
  const auto again = Tokenizer::from_json(tokenizer_json_of(file, "x.gguf"), "again");
  const std::string text = read_file(PTQ_TEST_DIR "/../data/shakespeare-eval.txt").substr(0, 20'000);
  EXPECT_EQ(whole->encode(text, true), again->encode(text, true));
  const std::vector<int64_t> ids = again->encode("It's 12 o'clock.\n\n  <|endoftext|>", false);
  EXPECT_EQ(ids, whole->encode("It's 12 o'clock.\n\n  <|endoftext|>", false));
  EXPECT_EQ(again->decode(ids), whole->decode(ids));
}

TEST_F(GgufTokenizers, BytesAsFallbackGiveTheSameIds) {
  const std::string json = fallback_tokenizer().dump();
  const GgufFile file = arrays(json, 269);
  EXPECT_EQ(std::get<std::string>(file.metadata.at("tokenizer.ggml.model")), "llama");
  const auto& types = std::get<std::vector<int64_t>>(file.metadata.at("tokenizer.ggml.token_type"));
  EXPECT_EQ(std::vector<int64_t>(types.begin(), types.begin() + 4), (std::vector<int64_t>{2, 3, 3, 6}));
  const auto& scores = std::get<std::vector<float>>(file.metadata.at("tokenizer.ggml.scores"));
  EXPECT_EQ(scores[263], 0);   // "▁a", the first merge
  EXPECT_EQ(scores[264], -1);  // "an"
  const auto whole = Tokenizer::from_json(json, "whole");
  const auto again = Tokenizer::from_json(tokenizer_json_of(file, "x.gguf"), "again");
  for (const char* text : {"banana an b", "a  nan é", "ananan"})
    EXPECT_EQ(whole->encode(text, false), again->encode(text, false)) << text;
}

TEST_F(GgufTokenizers, EveryNamedKindIsFoundAgain) {
  for (const char* pre : {"gpt-2", "smollm", "llama-bpe", "qwen2"}) {
    const GgufKind kind = gguf_kind(tokenizer_of_kind("gpt2", pre, "test"), "test");
    EXPECT_STREQ(kind.model, "gpt2");
    EXPECT_STREQ(kind.pre, pre);
    EXPECT_FALSE(kind.without_nfc);
  }
  EXPECT_ERROR(tokenizer_of_kind("gpt2", "deepseek-coder", "x.gguf"), ExitCode::kFailed,
               "deepseek-coder is not read");
}

TEST_F(GgufTokenizers, KindsThatLlamaCppDoesNotHaveAreRefused) {
  const auto refused = [&](const std::function<void(Json&)>& change, const char* words) {
    Json tokenizer = parse_json(read_file(PTQ_TEST_DIR "/../data/llama-1m/tokenizer.json"), "tokenizer");
    change(tokenizer);
    EXPECT_ERROR(arrays(tokenizer.dump(), 2048), ExitCode::kFailed, words);
    EXPECT_ERROR(arrays(tokenizer.dump(), 2048), ExitCode::kFailed, "--tokenizer none");
  };
  refused([](Json& t) { t["model"]["type"] = "Unigram"; }, "\"Unigram\"");
  refused([](Json& t) { t["normalizer"] = {{"type", "Lowercase"}}; }, "the normalizer");
  refused([](Json& t) { t["pre_tokenizer"]["add_prefix_space"] = true; }, "the pre-tokenizer");
  refused([](Json& t) { t["model"]["ignore_merges"] = true; }, "with ignore_merges");
  refused([](Json& t) { t["model"]["byte_fallback"] = true; }, "not Llama 2's");
  refused([](Json& t) { t["added_tokens"][0]["id"] = 2048; }, "the token id 2048");
}

TEST_F(GgufTokenizers, NoneIsWrittenWhereThereIsNone) {
  const GgufTokenizer made = gguf_tokenizer(directory_.path(), Json::object(), 10, /*wanted=*/true);
  EXPECT_EQ(made.model, "no_vocab");
  EXPECT_EQ(made.notes.size(), 1U);
  GgufFile file;
  file.metadata["tokenizer.ggml.model"] = std::string("no_vocab");
  EXPECT_EQ(tokenizer_json_of(file, "x.gguf"), "");
}

TEST_F(GgufTokenizers, ChatTemplateIsCopied) {
  directory_.write("tokenizer_config.json", R"({"chat_template": "{{ messages }}"})");
  const std::string json = read_file(PTQ_TEST_DIR "/../data/llama-1m/tokenizer.json");
  EXPECT_EQ(std::get<std::string>(arrays(json, 2048).metadata.at("tokenizer.chat_template")),
            "{{ messages }}");
}

}  // namespace
}  // namespace ptq
