// quantize bench: what it prints, never how fast it was.
#include <csignal>

#include "cli/cli.h"

namespace ptq {
namespace {

class Bench : public Cli {
 protected:
  const std::string llama_ = PTQ_TEST_DATA "/llama-1m";
  const Words short_ = {"--prompt", "8", "--generate", "2", "--repeat", "2"};
};

void expect_spread(const Json& of) {
  EXPECT_GT(of["min"].get<double>(), 0);
  EXPECT_LE(of["min"].get<double>(), of["median"].get<double>());
  EXPECT_LE(of["median"].get<double>(), of["max"].get<double>());
}

TEST_F(Bench, ModelsSideBySideAreComparedWithTheFirst) {
  run_well({llama_, "--method", "rtn", "--bits", "w8a8", "-o", "q", "--quiet"});
  const Json json = run_json(Words{"bench", llama_, "q", model_} + short_);
  for (const char* name : {"read_gb_per_second", "integer_gop_per_second"})
    expect_spread(json["machine"][name]);
  ASSERT_EQ(json["models"].size(), 3U);
  for (const Json& model : json["models"]) {
    for (const char* name : {"prefill_tokens_per_second", "decode_tokens_per_second", "first_token_ms",
                             "step_gb_per_second", "prefill_gop_per_second"})
      expect_spread(model[name]);
    EXPECT_GT(model["peak_rss_bytes"].get<int64_t>(), 10 << 20);
    EXPECT_GT(model["library_calls"]["count"].get<int64_t>(), 0);
    EXPECT_LT(model["library_calls"]["share"].get<double>(), 1);
  }
  EXPECT_EQ(json["models"][0]["relative"], (Json{{"prefill", 1.0}, {"decode", 1.0}, {"peak_rss", 1.0}}));
  EXPECT_EQ(json["models"][1]["name"], "q");
  EXPECT_EQ(json["repeat"], 2);
}

// A head that is the embedding is read as a whole.
TEST_F(Bench, BytesOfAStepAreThoseOfTheStoredTensorsThatItReads) {
  const auto bytes = [&](const std::string& model) {
    return run_json(Words{"bench", model, "--prompt", "2", "--generate", "1", "--repeat",
                          "1"})["models"][0]["step_bytes"]
        .get<int64_t>();
  };
  Json tensors = run_json({"inspect", llama_, "--no-scan"})["tensors"];
  int64_t all = 0;
  for (const Json& tensor : tensors) {
    int64_t count = 2;  // F16
    for (const Json& size : tensor["shape"]) count *= size.get<int64_t>();
    all += count;
  }
  EXPECT_EQ(bytes(llama_), all);
  run_well({llama_, "--method", "rtn", "--bits", "w8a8", "-o", "q", "--quiet"});
  EXPECT_LT(bytes("q"), all * 3 / 4);
}

TEST_F(Bench, TableNamesEveryModelAndTheMachine) {
  const std::string out = run_well(Words{"bench", llama_, model_, "--batch", "2"} + short_).out;
  for (const char* word : {"llama-1m", "model.pt", "prefill tokens/s", "peak memory", "machine: reads"})
    EXPECT_NE(out.find(word), std::string::npos) << word << " in " << out;
}

TEST_F(Bench, WrongInputIsAnError) {
  expect_error({"bench"}, 2, {"MODEL"});
  expect_error({"bench", llama_, "--prompt", "0"}, 2, {"--prompt"});
  expect_error({"bench", llama_, "--generate", "0"}, 2, {"--generate"});
  expect_error({"bench", llama_, "--repeat", "0"}, 2, {"--repeat"});
  expect_error(Words{"bench", llama_, "gone"} + short_, 1, {"gone"});
  expect_error(Words{"bench", llama_, "--device", "tpu"} + short_, 2, {"--device"});
}

TEST_F(Bench, TextLongerThanTheModelWasTrainedForIsAWarning) {
  const Words words = {"bench", llama_, "--generate", "2", "--repeat", "1", "--prompt"};
  EXPECT_EQ(run_well(words + Words{"8"}).err.find("max_position_embeddings"), std::string::npos);
  EXPECT_NE(run_well(words + Words{"1023"}).err.find("max_position_embeddings"), std::string::npos);
}

TEST_F(Bench, InterruptedEndsWithItsProcesses) {
  ProcessOptions options;
  options.signals = {SIGTERM};
  options.signal_delay_ms = 1000;
  const ProcessResult result =
      run({"bench", llama_, model_, "--prompt", "8", "--generate", "2", "--repeat", "10000"}, options);
  EXPECT_EQ(result.exit_code, 5) << result.err;
  EXPECT_EQ(result.out, "");
}

}  // namespace
}  // namespace ptq
