// quantize generate: prompts, samplers and what ends a text.
#include <filesystem>
#include <sstream>

#include "cli/cli.h"

namespace ptq {
namespace {

class Generate : public Cli {
 protected:
  const std::string llama_ = PTQ_TEST_DATA "/llama-1m";
  const Words one_ = {"generate", llama_, "--prompt", "First Citizen:"};

  std::vector<Json> json_lines(const Words& arguments) const {
    std::istringstream out(run_well(arguments).out);
    std::vector<Json> lines;
    for (std::string line; std::getline(out, line);) lines.push_back(parse_json(line, "stdout"));
    return lines;
  }
  std::vector<Json> of_prompts(const std::string& file, const Words& more = {}) const {
    return json_lines(Words{"generate", llama_, "--prompts", file, "--max-tokens", "6"} + more);
  }
};

TEST_F(Generate, EachPromptOfAFileGivesAJsonLineInOrder) {
  directory_.write("a.txt", "The king\r\n\nMy lord,\nO\n");
  directory_.write("a.jsonl", R"({"prompt": "The king"}
{"id": 7, "prompt": "My lord,"}
{"prompt": "O"}
)");
  const std::vector<Json> lines = of_prompts("a.txt");
  ASSERT_EQ(lines.size(), 3U);
  const Words prompts = {"The king", "My lord,", "O"};
  for (size_t i = 0; i < 3; ++i) {
    const std::string text = lines[i]["text"].get<std::string>();
    EXPECT_EQ(text, prompts[i] + lines[i]["completion"].get<std::string>());
    EXPECT_EQ(lines[i]["ending"], "length");
    EXPECT_EQ(lines[i]["ids"].size(), lines[i]["prompt_tokens"].get<size_t>() + 6);
  }
  EXPECT_EQ(of_prompts("a.jsonl"), lines);
  // A prompt has the same text with or without others beside it.
  directory_.write("b.txt", "The king\n");
  EXPECT_EQ(of_prompts("b.txt", {"--temperature", "1"})[0], of_prompts("a.txt", {"--temperature", "1"})[0]);
}

TEST_F(Generate, AlikePromptsAreDrawnEachForItself) {
  directory_.write("a.txt", "The king\nThe king\n");
  const std::vector<Json> greedy = of_prompts("a.txt"), drawn = of_prompts("a.txt", {"--temperature", "2"});
  EXPECT_EQ(greedy[0], greedy[1]);
  EXPECT_NE(drawn[0]["ids"], drawn[1]["ids"]);
  EXPECT_EQ(of_prompts("a.txt", {"--temperature", "2"}), drawn);
}

TEST_F(Generate, PromptsThatAreNoneAreAnError) {
  directory_.write("empty.txt", "\n \n");
  directory_.write("other.jsonl", "{\"text\": \"The king\"}\n");
  expect_error({"generate", llama_, "--prompts", "empty.txt"}, 1, {"empty.txt", "no prompt"});
  expect_error({"generate", llama_, "--prompts", "other.jsonl"}, 1, {"other.jsonl", "prompt"});
  expect_error({"generate", llama_, "--prompts", "gone.txt"}, 1, {"gone.txt"});
  expect_error({"generate", llama_}, 2, {"--prompt", "--prompts"});
  expect_error(one_ + Words{"--prompts", "empty.txt"}, 2, {"--prompt", "--prompts"});
}

TEST_F(Generate, SamplersThatKeepOneTokenGiveTheGreedyText) {
  const Words short_text = one_ + Words{"--max-tokens", "12"};
  const Words drawn = short_text + Words{"--temperature", "1.5"};
  const std::string greedy = run_well(short_text).out;
  EXPECT_NE(run_well(drawn).out, greedy);
  EXPECT_EQ(run_well(drawn + Words{"--top-k", "1"}).out, greedy);
  EXPECT_EQ(run_well(drawn + Words{"--top-p", "1e-9"}).out, greedy);
  EXPECT_EQ(run_well(drawn + Words{"--min-p", "1"}).out, greedy);
  EXPECT_NE(run_well(short_text + Words{"--repetition-penalty", "3"}).out, greedy);
}

TEST_F(Generate, SamplersOutOfRangeAreWrongUsage) {
  for (const Words& wrong : {Words{"--top-p", "0"}, Words{"--top-p", "1.5"}, Words{"--top-k", "-1"},
                             Words{"--min-p", "nan"}, Words{"--min-p", "-0.1"}, Words{"--min-p", "0.1x"},
                             Words{"--repetition-penalty", "0"}, Words{"--stop", ""}})
    expect_error(one_ + wrong, 2, {wrong[0]});
}

TEST_F(Generate, StopStringEndsTheTextBeforeIt) {
  const Words words = one_ + Words{"--max-tokens", "30"};
  const std::string text = run_json(words)["completion"].get<std::string>();
  ASSERT_GT(text.size(), 20U);
  const std::string stop = text.substr(9, 4);
  const Words stopped = words + Words{"--stop", "never", "--stop", stop};
  const Json json = run_json(stopped);
  EXPECT_EQ(json["completion"], text.substr(0, text.find(stop)));
  EXPECT_EQ(json["ending"], "stop");
  EXPECT_EQ(run_well(stopped).out, json["text"].get<std::string>() + "\n");
}

TEST_F(Generate, EndTokenOfTheConfigurationEndsTheText) {
  const Words words = {"generate", "m", "--prompt", "First Citizen:", "--max-tokens", "10"};
  std::filesystem::copy(llama_, directory_ / "m");
  const Json free = run_json(words);
  const int64_t end = free["ids"][free["prompt_tokens"].get<size_t>() + 4];
  directory_.write("m/generation_config.json", Json{{"eos_token_id", {end, 0}}}.dump());
  const Json ended = run_json(words);
  EXPECT_EQ(ended["ending"], "end");
  EXPECT_EQ(ended["ids"].back(), end);
  const std::string text = ended["text"].get<std::string>();
  EXPECT_TRUE(free["text"].get<std::string>().starts_with(text));
  EXPECT_EQ(run_well(words).out, text + "\n");
  EXPECT_EQ(run_json(words + Words{"--ignore-eos"}), free);
}

TEST_F(Generate, SpeedIsSaidOnceAndNotWithQuiet) {
  const ProcessResult result = run_well(one_ + Words{"--max-tokens", "4"});
  const size_t said = result.err.find("decoding: 3 tokens");
  ASSERT_NE(said, std::string::npos) << result.err;
  EXPECT_EQ(result.err.find("tokens/s", result.err.find('\n', said)), std::string::npos);
  EXPECT_EQ(run_well(one_ + Words{"--max-tokens", "4", "--quiet"}).err, "");
}

}  // namespace
}  // namespace ptq
