// Wrong usage: exit code 2, and a message that says what was meant.
#include "cli/cli.h"

namespace ptq {
namespace {

using Usage = Cli;

TEST_F(Usage, MisspelledNamesGetASuggestion) {
  const auto wrong = [&](const Words& arguments, const Words& words) { expect_error(arguments, 2, words); };
  wrong({"--metod", "quamba", model_}, {"--metod: unknown option", "did you mean \"--method\"?"});
  wrong({"--method", "quamab", model_}, {"did you mean \"quamba\"?"});
  wrong({"--method", "quamba", "--bits", "w8a9", model_}, {"--bits", "did you mean \"w8a8\"?"});
  wrong({"--method", "quamba", model_, "--set", "quamba.percentil=1"}, {"did you mean \"percentile\"?"});
  wrong({"--method", "rtn", model_, "--set", "step.0.bits=4"}, {"did you mean \"steps\"?"});
  wrong({"--method", "rtn", model_, "--embedding", "int9"}, {"did you mean \"int8\"?"});
  wrong({"evall", model_, "--text", eval_}, {"evall", "did you mean \"eval\"?"});
  wrong({"eval", model_, "--txt", eval_}, {"--text"});
}

TEST_F(Usage, ValuesThatAreNotAllowedAreNamed) {
  const auto wrong = [&](const Words& arguments, const Words& words) {
    expect_error(arguments + Words{"-o", "q"}, 2, words);
  };
  const Words quamba = {"--method", "quamba", model_};
  wrong(quamba + Words{"--samples", "0"}, {"--samples"});
  wrong(quamba + Words{"--samples", "x"}, {"--samples", "x"});
  wrong(quamba + Words{"--seq-len", "-4"}, {"--seq-len"});
  wrong(quamba + Words{"--seed", "-1"}, {"--seed"});
  wrong(quamba + Words{"--threads", "many"}, {"--threads"});
  wrong(quamba + Words{"--max-shard-size", "5XB"}, {"--max-shard-size", "5GB"});
  wrong(quamba + Words{"--device", "tpu"}, {"--device", "cpu"});
  wrong(quamba + Words{"--set", "quamba.percentile=2"}, {"percentile", "0.99999"});
  wrong(quamba + Words{"--set", "quamba.hadamard=5"}, {"hadamard", "true or false"});
  wrong(quamba + Words{"--set", "steps.9.bits=4"}, {"steps.9.bits"});
  wrong(quamba + Words{"--set", "percentile"}, {"PATH=VALUE"});
  wrong(quamba + Words{"--skip", "nothing"}, {"no tensor matches"});
  wrong(quamba + Words{"--recipe", "r.json"}, {"--recipe"});
}

TEST_F(Usage, CommandsSayWhatIsMissing) {
  expect_error({}, 2, {"which model?", "quantize --method quamba model.pt"});
  expect_error({model_}, 2, {"--method", "quantize list"});
  expect_error({"--method", "quamba"}, 2, {"MODEL"});
  expect_error({"--method", "quamba", model_, model_}, 2, {"one argument too many"});
  expect_error({"quantize", "--method", "quamba", model_}, 2, {"without a command"});
  expect_error({"eval", model_}, 2, {"--text"});
  expect_error({"tokenize", "--text", eval_}, 2, {"--tokenizer"});
  expect_error({"tokenize", "--tokenizer", tokenizer_}, 2, {"--text", "--decode"});
  expect_error({"generate", model_, "--prompt", "a", "--temperature", "nan"}, 2, {"--temperature"});
  expect_error({"generate", model_, "--prompt", "a", "--max-tokens", "-3"}, 2, {"--max-tokens"});
}

}  // namespace
}  // namespace ptq
