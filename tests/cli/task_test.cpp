// `eval --task`: answers to questions, as a table and as JSON, against another model; and files that are none.
#include <algorithm>

#include "cli/cli.h"

namespace ptq {
namespace {

class Task : public Cli {
 protected:
  const std::string llama_ = PTQ_TEST_DATA "/llama-1m";
  const std::string words_ = directory_.write(
      "words.jsonl",
      "{\"text\": \"First Citizen: Before we proceed any further, hear me speak. Speak, speak.\"}\n"
      "{\"text\": \"To be, or not to be, that is the question\"}\n"
      "{\"text\": \"I will not be the king of\"}\n");
  const std::string choices_ = directory_.write(
      "choices.jsonl",
      "{\"context\": \"I pray\", \"choices\": [\"you, sir\", \"xylophone quartz jazz\"], \"answer\": 0}\n"
      "{\"context\": \"The king of\", \"choices\": [\"zzzz qqqq\", \"England\"], \"answer\": 1}\n"
      "{\"context\": \"My\", \"choices\": [\"lord\", \"of of of of of\", \"}{\"], \"answer\": 1}\n"
      "{\"context\": \"I am\", \"choices\": [\"not\", \"}{ }{ }{ }{\"], \"answer\": 0}\n");

  Words eval(const std::string& files, const Words& more = {}) const {
    return Words{"eval", llama_, "--task", files, "--threads", "1"} + more;
  }
};

Words keys_of(const Json& json) {
  Words keys;
  for (const auto& [key, value] : json.items()) keys.push_back(key);
  return keys;
}

TEST_F(Task, JsonHasTheScoresOfEachFile) {
  const Json json = run_json(eval(choices_ + "," + words_));
  EXPECT_EQ(keys_of(json), (Words{"shots", "seed", "seq_len", "tasks"}));
  EXPECT_EQ(json["shots"], 0);
  EXPECT_EQ(json["seed"], 1234);
  EXPECT_EQ(json["seq_len"], 1024);
  ASSERT_EQ(json["tasks"].size(), 2U);
  const Json &choices = json["tasks"][0], &words = json["tasks"][1];
  EXPECT_EQ(keys_of(choices), (Words{"task", "file", "questions", "cut", "acc", "acc_stderr", "acc_norm",
                                     "acc_norm_stderr", "mean_log_likelihood"}));
  EXPECT_EQ(choices["task"], "choices");
  EXPECT_EQ(choices["questions"], 4);
  EXPECT_EQ(choices["acc"], 0.75);
  EXPECT_EQ(choices["acc_stderr"], 0.25);
  EXPECT_EQ(keys_of(words), (Words{"task", "file", "questions", "cut", "acc", "acc_stderr", "perplexity",
                                   "perplexity_stderr", "mean_log_likelihood"}));
  EXPECT_EQ(words["task"], "lambada");
  EXPECT_EQ(words["questions"], 3);
  EXPECT_GT(words["perplexity"].get<double>(), 1);
}

TEST_F(Task, TheFirstQuestionsAloneAreAnsweredAsAmongAll) {
  const Json all = run_json(eval(choices_)), first = run_json(eval(choices_, {"--limit", "1"}));
  EXPECT_EQ(first["tasks"][0]["questions"], 1);
  EXPECT_EQ(first["tasks"][0]["acc"], 1);
  EXPECT_TRUE(first["tasks"][0]["acc_stderr"].is_null());
  EXPECT_EQ(all, run_json(eval(choices_)));
}

TEST_F(Task, ExamplesChangeWhatIsAsked) {
  const double none = run_json(eval(choices_))["tasks"][0]["mean_log_likelihood"].get<double>();
  const auto with = [&](const Words& more) {
    return run_json(eval(choices_, Words{"--shots", "2"} + more))["tasks"][0]["mean_log_likelihood"]
        .get<double>();
  };
  EXPECT_NE(with({}), none);
  EXPECT_EQ(with({}), with({"--seed", "1234"}));
  EXPECT_NE(with({}), with({"--seed", "7"}));
  EXPECT_NE(with({"--shots-from", choices_}), none);
}

TEST_F(Task, AgainstSaysWhichAnswersChanged) {
  run_well({llama_, "--method", "rtn", "--bits", "w4a16", "-o", "q", "--quiet"});
  const Words arguments = {"eval", "q", "--against", llama_, "--task", choices_ + "," + words_};
  const Json json = run_json(arguments);
  const Json plain = run_json(eval(choices_ + "," + words_));
  for (size_t i = 0; i < 2; ++i) {
    const Json &task = json["tasks"][i], &against = task["against"];
    EXPECT_EQ(against["acc"], plain["tasks"][i]["acc"]);
    EXPECT_EQ(against["mean_log_likelihood"], plain["tasks"][i]["mean_log_likelihood"]);
    EXPECT_NE(against["mean_log_likelihood"], task["mean_log_likelihood"]);
    EXPECT_EQ(against["acc_difference"].get<double>(),
              task["acc"].get<double>() - against["acc"].get<double>());
    int64_t balance = 0;
    for (const Json& change : against["changed"]) {
      EXPECT_TRUE(change["right"] != change["right_against"] || change["choice"] != change["choice_against"]);
      balance += change["right"].get<bool>() ? 1 : 0;
      balance -= change["right_against"].get<bool>() ? 1 : 0;
    }
    EXPECT_EQ(against["became_right"].get<int64_t>() - against["became_wrong"].get<int64_t>(), balance);
  }
  const std::string text = run_well(arguments).out;
  for (const char* word : {"choices", "lambada", "against", "acc_norm", "perplexity", "answers changed"})
    EXPECT_NE(text.find(word), std::string::npos) << text;
  const Json self = run_json({"eval", llama_, "--against", llama_, "--task", choices_});
  EXPECT_EQ(self["tasks"][0]["against"]["changed"], Json::array());
}

TEST_F(Task, LongTextsAreCutAndSaidToBe) {
  const ProcessResult result = run_well(eval(words_, {"--seq-len", "4", "--json"}));
  EXPECT_EQ(parse_json(result.out, "stdout")["tasks"][0]["cut"], 3);
  EXPECT_NE(result.err.find("3 texts of more than 4 tokens lost their beginning"), std::string::npos);
}

TEST_F(Task, WhatIsNoTaskIsRefused) {
  const auto refused = [&](const std::string& text, const Words& words) {
    expect_error(eval(directory_.write("bad.jsonl", text)), 1, Words{"bad.jsonl"} + words);
  };
  refused("", {"has no question"});
  refused("{\"a\": 1}\n", {"line 1", "is a row of no data set that is known", "hellaswag"});
  refused("{\"text\": \"a b\"}\n{\"context\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": 0}\n",
          {"line 2", "is a row of choices, the first was one of lambada"});
  refused("{\"context\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": 2}\n",
          {"line 1", "is 2; the choices are 0 to 1"});
  refused("{\"text\": \"a \xFF\"}\n", {"UTF-8"});
  refused("{\"text\": \"a b\"\n", {"line 1"});
  expect_error(eval(directory_ / "gone.jsonl"), 1, {"gone.jsonl"});
  expect_error(eval(words_, {"--shots", "3"}), 1, {"words.jsonl", "--shots 3 needs 3"});
}

TEST_F(Task, OptionsOfTextsAndTasksDoNotMix) {
  expect_error(eval(words_, {"--text", eval_}), 2, {"--text", "does not go with --task"});
  expect_error(eval(words_, {"--max-tokens", "5"}), 2, {"--max-tokens", "--limit"});
  for (const char* option : {"--shots", "--limit", "--seed"})
    expect_error({"eval", llama_, "--text", eval_, option, "1"}, 2, {option, "is for --task"});
  expect_error(eval(words_, {"--shots-from", words_}), 2, {"--shots-from", "--shots"});
}

}  // namespace
}  // namespace ptq
