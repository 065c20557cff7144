// The commands other than quantizing: what they print, and the form of --json.
#include <cmath>

#include "cli/cli.h"

namespace ptq {
namespace {

using Commands = Cli;

Words keys_of(const Json& json) {
  Words keys;
  for (const auto& [key, value] : json.items()) keys.push_back(key);
  return keys;
}

TEST_F(Commands, VersionAndHelpGoToStdout) {
  const ProcessResult version = run_well({"--version"});
  EXPECT_EQ(version.out.find("quantize "), 0U);
  EXPECT_NE(version.out.find("libtorch"), std::string::npos);
  EXPECT_EQ(version.err, "");
  for (const char* command :
       {"list", "inspect", "tokenize", "eval", "generate", "bench", "diff", "check", "report"}) {
    const ProcessResult help = run_well({command, "--help"});
    EXPECT_NE(help.out.find("Exit codes: 0 done"), std::string::npos) << command;
  }
  const ProcessResult help = run_well({"--help"});
  for (const char* word : {"--method", "--no-mmap ", "generate", "70 a bug"})
    EXPECT_NE(help.out.find(word), std::string::npos) << word;
}

TEST_F(Commands, ListPrintsTheTables) {
  const Json json = run_json({"list"});
  EXPECT_EQ(keys_of(json), (Words{"methods", "steps", "architectures", "formats"}));
  EXPECT_EQ(json["methods"][0]["name"], "quamba");
  EXPECT_EQ(json["methods"][0]["options"]["percentile"], "auto");
  const Json& peft = json["formats"][1];
  EXPECT_EQ(json["formats"][0]["name"], "ptq");
  EXPECT_EQ(keys_of(peft), (Words{"name", "description", "exported", "opened", "why_not_opened", "options"}));
  EXPECT_EQ(peft["name"], "peft");
  EXPECT_EQ(peft["exported"], true);
  EXPECT_EQ(peft["opened"], false);
  EXPECT_EQ(peft["options"], Json({"dtype"}));
  const ProcessResult text = run_well({"list"});
  for (const Json& method : json["methods"])
    EXPECT_NE(text.out.find("  " + method["name"].get<std::string>() + "  "), std::string::npos);
}

TEST_F(Commands, ListOfAMethodExplainsItsOptions) {
  const Json listed = run_json({"list"});
  for (const Json& method : listed["methods"]) {
    const auto name = method["name"].get<std::string>();
    const Json json = run_json({"list", name});
    const std::string text = run_well({"list", name}).out;
    EXPECT_EQ(json["options"].size(), method["options"].size()) << name;
    for (const Json& option : json["options"]) {
      EXPECT_EQ(keys_of(option), (Words{"name", "default", "values", "effect"}));
      EXPECT_EQ(option["default"], method["options"][option["name"].get<std::string>()]);
      for (const char* key : {"values", "effect"})
        EXPECT_NE(text.find(option[key].get<std::string>()), std::string::npos) << option;
    }
  }
  const ProcessResult wrong = run({"list", "quanba"});
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_NE(wrong.err.find("did you mean \"quamba\""), std::string::npos) << wrong.err;
}

TEST_F(Commands, InspectNamesEveryTensor) {
  const Json json = run_json({"inspect", model_});
  EXPECT_EQ(json["kind"], "float");
  EXPECT_EQ(json["architecture"], "mamba");
  EXPECT_EQ(json["parameters"], 728704);
  EXPECT_EQ(json["bits_per_weight"], 16.0);
  EXPECT_EQ(json["not_finite"], 0);
  EXPECT_EQ(json["ties"].size(), 1U);
  EXPECT_EQ(keys_of(json["tensors"][0]), (Words{"name", "dtype", "shape", "bytes", "abs_max", "not_finite"}));
  EXPECT_TRUE(run_json({"inspect", model_, "--no-scan"})["not_finite"].is_null());
  EXPECT_NE(run_well({"inspect", model_, "--no-mmap"}).out.find("no NaN or infinity"), std::string::npos);
}

TEST_F(Commands, TokenizeGivesOneArrayADocument) {
  const std::string text = directory_.write("a.txt", "First Citizen:\nspeak");
  const ProcessResult plain = run_well({"tokenize", "--tokenizer", tokenizer_, "--text", text});
  const Json ids = parse_json(plain.out, "stdout");
  ASSERT_TRUE(ids.is_array());
  EXPECT_GT(ids.size(), 1U);
  const std::string lines = directory_.write("a.jsonl", "{\"text\": \"speak\"}\n{\"text\": \"First\"}\n");
  const ProcessResult two = run_well({"tokenize", "--tokenizer", tokenizer_, "--text", lines});
  EXPECT_EQ(std::count(two.out.begin(), two.out.end(), '\n'), 2);
  const std::string encoded = directory_.write("ids.txt", plain.out);
  EXPECT_EQ(run_well({"tokenize", "--tokenizer", tokenizer_, "--decode", encoded}).out,
            "First Citizen:\nspeak\n");
}

TEST_F(Commands, EvalMeasuresPerplexity) {
  const Json json = run_json({"eval", model_, "--text", eval_, "--seq-len", "64", "--max-tokens", "300"});
  EXPECT_EQ(keys_of(json), (Words{"perplexity", "mean_nll", "tokens", "seq_len"}));
  EXPECT_EQ(json["tokens"], 4 * 63);
  EXPECT_EQ(json["seq_len"], 64);
  EXPECT_NEAR(json["perplexity"].get<double>(), std::exp(json["mean_nll"].get<double>()), 1e-9);
}

TEST_F(Commands, EvalAgainstAnotherModelAddsDivergence) {
  quantize({"--method", "quamba"}, "q");
  const Json json =
      run_json({"eval", "q", "--against", model_, "--text", eval_, "--seq-len", "64", "--max-tokens", "300"});
  EXPECT_EQ(keys_of(json["against"]), (Words{"perplexity", "mean_kl", "top1_agreement"}));
  EXPECT_GT(json["against"]["mean_kl"].get<double>(), 0);
  EXPECT_LT(json["against"]["mean_kl"].get<double>(), 0.1);
  EXPECT_GT(json["against"]["top1_agreement"].get<double>(), 0.8);
  const Json self = run_json(
      {"eval", model_, "--against", model_, "--text", eval_, "--seq-len", "64", "--max-tokens", "128"});
  EXPECT_EQ(self["against"]["mean_kl"], 0.0);
  EXPECT_EQ(self["against"]["top1_agreement"], 1.0);
}

TEST_F(Commands, GenerateContinuesAPrompt) {
  const Words arguments = {"generate", model_, "--prompt", "First Citizen:", "--max-tokens", "8"};
  const Json json = run_json(arguments);
  EXPECT_EQ(keys_of(json), (Words{"text", "completion", "ids", "prompt_tokens", "ending"}));
  EXPECT_EQ(json["ids"].size(), json["prompt_tokens"].get<size_t>() + 8);
  EXPECT_EQ(json["text"].get<std::string>().find("First Citizen:"), 0U);
  EXPECT_EQ(run_well(arguments).out, json["text"].get<std::string>() + "\n");
  const Words drawn = arguments + Words{"--temperature", "1", "--seed", "7"};
  EXPECT_EQ(run_well(drawn).out, run_well(drawn).out);
}

}  // namespace
}  // namespace ptq
