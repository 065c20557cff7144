// Files of text as commands take them: packed, converted, from pipes, of other fields; and what is no text.
#include <fstream>

#include "cli/cli.h"

namespace ptq {
namespace {

class Text : public Cli {
 protected:
  const std::string llama_ = PTQ_TEST_DATA "/llama-1m";

  std::string text() const {
    std::ifstream file(eval_, std::ios::binary);
    std::string text(20'000, '\0');
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    return text;
  }
  // A line a paragraph, which joined are the text.
  static std::string lines(const std::string& text, const std::string& field) {
    std::string lines;
    for (size_t begin = 0; begin <= text.size();) {
      const size_t end = std::min(text.find('\n', begin), text.size());
      lines += Json({{field, text.substr(begin, end - begin)}}).dump() + "\n";
      begin = end + 1;
    }
    return lines;
  }
  static std::string utf16(const std::string& ascii) {
    std::string wide = "\xFF\xFE";
    for (const char c : ascii) wide += {c, '\0'};
    return wide;
  }
  Words eval(const std::string& path) const {
    return {"eval", llama_, "--text", path, "--seq-len", "64", "--max-tokens", "512", "--threads", "1"};
  }
  double perplexity(const std::string& path, const Words& more = {}) const {
    return run_json(eval(path) + more)["perplexity"].get<double>();
  }
  Words quantize_llama(const std::string& path) const {
    return {llama_, "--method", "gptq", "--calib", path, "--samples", "4", "--seq-len", "64", "-o", "out"};
  }
  ProcessResult shell(const std::string& command) const {
    return testing::run_process({"/bin/sh", "-c", command}, {.directory = directory_.path()});
  }
};

TEST_F(Text, OtherFormsOfATextGiveItsPerplexity) {
  const double expected = perplexity(directory_.write("plain.txt", text()));
  EXPECT_GT(expected, 10);
  EXPECT_LT(expected, 500);
  EXPECT_EQ(perplexity(directory_.write("wide.txt", utf16(text()))), expected);
  EXPECT_EQ(perplexity(directory_.write("a.jsonl", lines(text(), "text"))), expected);
  EXPECT_EQ(perplexity(directory_.write("a.JSONL", lines(text(), "text"))), expected);
  EXPECT_EQ(perplexity(directory_.write("b.json", lines(text(), "content")), {"--text-field", "content"}),
            expected);
  ASSERT_EQ(shell("gzip -k plain.txt a.jsonl").exit_code, 0);
  EXPECT_EQ(perplexity("plain.txt.gz"), expected);
  EXPECT_EQ(perplexity("a.jsonl.gz"), expected);
}

TEST_F(Text, WhatWasDecidedIsAWarningAndAnErrorIfStrict) {
  directory_.write("wide.txt", utf16(text()));
  run_well(quantize_llama("wide.txt"));
  const Json warnings = report("out")["warnings"];
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_NE(warnings[0].get<std::string>().find("is UTF-16 text"), std::string::npos) << warnings;
  EXPECT_EQ(report("out")["calibration"]["source"], "wide.txt");
  const ProcessResult strict = run(quantize_llama("wide.txt") + Words{"--strict", "--force"});
  EXPECT_EQ(strict.exit_code, 1);
  EXPECT_NE(strict.err.find("is UTF-16 text"), std::string::npos) << strict.err;
  EXPECT_EQ(run(Words{"plan"} + quantize_llama("wide.txt") + Words{"--strict", "--force"}).exit_code, 1);
}

TEST_F(Text, PlanRefusesWhatARunRefuses) {
  std::string parquet = "PAR1";
  for (int i = 0; i < 5000; ++i) parquet += static_cast<char>(i * i >> 3);
  directory_.write("a.parquet", parquet);
  directory_.write("a.txt", "caf\xE9");
  directory_.write("a.jsonl", "{\"content\": \"a\", \"id\": 3}\n");
  for (const auto& [path, words] : std::vector<std::pair<std::string, Words>>{
           {"a.parquet", {"is no text: it seems to be a Parquet file", ".jsonl"}},
           {"a.txt", {"0xE9 at offset 3 is not UTF-8", "iconv"}},
           {"a.jsonl", {"line 1: has no field \"text\"", "\"content\", \"id\"", "--text-field content"}},
           {".", {"is a directory"}}}) {
    expect_error(quantize_llama(path), 1, words);
    expect_error(Words{"plan"} + quantize_llama(path), 1, words);
    expect_error(eval(path), 1, words);
  }
}

TEST_F(Text, OtherFieldIsPartOfWhatARunIs) {
  directory_.write("a.jsonl", lines(text(), "content"));
  run_well(quantize_llama("a.jsonl") + Words{"--text-field", "content", "--quiet"});
  directory_.write("b.jsonl", lines(text(), "text"));
  run_well(Words{llama_, "--method", "gptq", "--calib", "b.jsonl", "--samples", "4", "--seq-len", "64", "-o",
                 "b", "--quiet"});
  EXPECT_TRUE(weights("out") == weights("b"));
}

TEST_F(Text, PipeIsReadOnceForAllThatReadIt) {
  directory_.write("a.txt", text());
  const std::string program = PTQ_PROGRAM;
  const std::string options = " " + llama_ + " --method gptq --samples 4 --seq-len 64 --quiet -o ";
  ASSERT_EQ(shell("cat a.txt | " + program + options + "p --calib /dev/stdin").exit_code, 0);
  ASSERT_EQ(shell(program + options + "f --calib a.txt").exit_code, 0);
  EXPECT_TRUE(weights("p") == weights("f"));
  EXPECT_EQ(report("p")["calibration"]["source"], "stdin");
  const ProcessResult evaluated =
      shell("cat a.txt | " + program + " eval " + llama_ +
            " --text /dev/stdin --seq-len 64 --max-tokens 512 --threads 1 --json --quiet");
  ASSERT_EQ(evaluated.exit_code, 0) << evaluated.err;
  EXPECT_EQ(parse_json(evaluated.out, "stdout")["perplexity"].get<double>(), perplexity("a.txt"));
  const ProcessResult tokens =
      shell("printf 'one two' | " + program + " tokenize " + llama_ + " --text /dev/stdin");
  EXPECT_EQ(tokens.out,
            shell("printf 'one two' >b.txt; " + program + " tokenize " + llama_ + " --text b.txt").out);
  EXPECT_EQ(tokens.exit_code, 0) << tokens.err;
}

TEST_F(Text, TextThatTheModelDoesNotKnowIsAWarning) {
  std::string noise;
  uint64_t state = 1;
  for (int i = 0; i < 4000; ++i) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    noise += static_cast<char>('!' + (state >> 40) % 90);
  }
  directory_.write("noise.txt", noise);
  const ProcessResult evaluated = run(eval("noise.txt"));
  EXPECT_EQ(evaluated.exit_code, 0);
  EXPECT_NE(evaluated.err.find("that of the vocabulary, 2048"), std::string::npos)
      << evaluated.err << evaluated.out;
  run_well(quantize_llama("noise.txt"));
  EXPECT_NE(report("out")["warnings"].dump().find("that of the vocabulary, 2048"), std::string::npos);
  EXPECT_EQ(run(eval(eval_)).err.find("vocabulary"), std::string::npos);
}

TEST_F(Text, LongTextCostsNoMoreThanItsBeginning) {
  std::string long_text;
  while (long_text.size() < (size_t{6} << 20)) long_text += text();
  directory_.write("long.txt", long_text);
  directory_.write("short.txt", long_text.substr(0, 200'000));
  const ProcessResult of_short = run(eval("short.txt")), of_long = run(eval("long.txt"));
  EXPECT_EQ(of_long.out, of_short.out);
  EXPECT_LT(of_long.peak_rss_bytes, of_short.peak_rss_bytes + (int64_t{8} << 20));
}

TEST_F(Text, AddedTokenBeyondTheVocabularyIsAnErrorOnlyWhereItOccurs) {
  Json tokenizer = read_json_file(llama_ + "/tokenizer.json");
  tokenizer["added_tokens"].push_back(
      {{"id", 2048}, {"content", "<pad>"}, {"special", true}, {"normalized", false}});
  directory_.write("tokenizer.json", tokenizer.dump());
  directory_.write("a.txt", text());
  directory_.write("b.txt", text() + "<pad>");
  const Words with = {"--tokenizer", "tokenizer.json"};
  const ProcessResult read = run(eval("a.txt") + with);
  EXPECT_EQ(read.exit_code, 0) << read.err;
  EXPECT_NE(read.err.find("added tokens up to the id 2048"), std::string::npos) << read.err;
  EXPECT_EQ(read.out, run(eval("a.txt")).out);
  const Words all = {"eval", llama_, "--text", "b.txt", "--seq-len", "64", "--threads", "1"};
  EXPECT_EQ(run(all + with).exit_code, 1);
  EXPECT_NE(run(all + with).err.find("token id 2048"), std::string::npos);
  run_well(quantize_llama("a.txt") + with);
  EXPECT_NE(report("out")["warnings"].dump().find("added tokens up to the id 2048"), std::string::npos);
}

TEST_F(Text, ContinuationPastTheTrainedLengthIsAWarning) {
  Json config = read_json_file(llama_ + "/config.json");
  config["max_position_embeddings"] = 16;
  directory_.write("config.json", config.dump());
  const Words words = {"generate", llama_, "--config", "config.json", "--prompt", "The king", "--max-tokens"};
  const ProcessResult within = run(words + Words{"4"}), past = run(words + Words{"20"});
  EXPECT_EQ(within.exit_code, 0);
  EXPECT_EQ(within.err.find("max_position_embeddings"), std::string::npos) << within.err;
  EXPECT_EQ(past.exit_code, 0);
  const size_t said = past.err.find("max_position_embeddings");
  ASSERT_NE(said, std::string::npos) << past.err;
  EXPECT_EQ(past.err.find("max_position_embeddings", said + 1), std::string::npos);
}

}  // namespace
}  // namespace ptq
