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

// Not a list of all options.
TEST_F(Usage, UnknownOptionGetsOneSuggestionOrTheHelp) {
  const auto wrong = [&](const Words& arguments, const std::string& typed, const std::string& suggestion) {
    const ProcessResult result = run(arguments);
    EXPECT_EQ(result.exit_code, 2) << typed;
    EXPECT_EQ(result.err, "error: " + typed + ": unknown option\n  try: " + suggestion + "\n");
  };
  const Words quamba = {"--method", "quamba", model_};
  wrong(quamba + Words{"--calibration", calib_}, "--calibration", "did you mean \"--calib\"?");
  wrong(quamba + Words{"--calib-text=" + calib_}, "--calib-text", "did you mean \"--calib\"?");
  wrong(quamba + Words{"--out", "q"}, "--out", "did you mean \"--output\"?");
  wrong(quamba + Words{"-output", "q"}, "-output", "did you mean \"--output\"?");
  wrong(quamba + Words{"\u2013samples", "8"}, "\u2013samples", "did you mean \"--samples\"?");
  wrong(quamba + Words{"--hardware", "x"}, "--hardware", "quantize --help");
  wrong(quamba + Words{"-x"}, "-x", "quantize --help");
  wrong({"--method", "quamba", "--model", model_}, "--model", "the model without an option: quantize MODEL");
  wrong({"eval", model_, "--text", eval_, "--bounds", "9"}, "--bounds", "quantize eval --help");
}

TEST_F(Usage, WrongNumbersOfValuesSayWhatTheOptionTakes) {
  const Words quamba = {"--method", "quamba", model_};
  const auto wrong = [&](const Words& arguments, const Words& words) { expect_error(arguments, 2, words); };
  wrong(quamba + Words{"--samples"}, {"--samples: its value is missing", "--samples N: calibration windows"});
  wrong(quamba + Words{"-o", "a", "-o", "b"}, {"--output: is given more than once", "--output DIR"});
  wrong(quamba + Words{"--samples", "1.5"}, {"--samples: \"1.5\" is not a whole number from 1 to 1000000"});
  wrong(quamba + Words{"--target-bpw", "99"}, {"--target-bpw: \"99\" is not a number from 1 to 32"});
  wrong(quamba + Words{"--quiet=maybe"}, {"--quiet: \"maybe\" is not a value"});
  wrong(quamba + Words{"--seed", "18446744073709551616"}, {"--seed", "is not a number from 0 to 2^64 - 1"});
  wrong({"eval"}, {"PATH: is missing", "PATH: a checkpoint"});
  wrong({"eval", model_}, {"--text: is missing, and so is --task", "--text FILE", "--task FILE"});
  wrong({"completion", "tcsh"}, {"one of: bash, zsh, fish"});
}

TEST_F(Usage, DurationsAreNumbersWithAUnit) {
  for (const char* text : {"x", "-1", "5 s", "1d", "nan", "inf"})
    expect_error({"--method", "quamba", model_, "--save-every", text}, 2,
                 {"--save-every", "is not a duration"});
  for (const char* text : {"0", "1.5", "10s", "500ms", "2m", "2min", "1h"})
    run_well({"plan", "--method", "quamba", model_, "--save-every", text});
}

TEST_F(Usage, AfterTwoDashesAWordWithADashIsAModel) {
  std::filesystem::copy_file(model_, directory_ / "-dash.pt");
  run_well(Words{"--method", "rtn", "-o", "q"} + small_ + Words{"--tokenizer", tokenizer_, "--", "-dash.pt"});
  EXPECT_EQ(report("q")["source"]["name"], "-dash.pt");
  EXPECT_EQ(parse_json(run_well({"inspect", "--json", "--", "-dash.pt"}).out, "stdout")["kind"], "float");
  expect_error({"inspect", "--", "-dash.pt", "-more"}, 2, {"-more: one argument too many"});
  expect_error({"--method", "rtn", "--", "-nothing"}, 1, {"-nothing"});
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
