// --compute int8 and --simulate: how the products of a model that runs are made.
#include <cstdlib>

#include "cli/cli.h"

namespace ptq {
namespace {

class ComputeOption : public Cli {
 protected:
  const std::string llama_ = PTQ_TEST_DATA "/llama-1m";

  // The JSON of `eval` on a little text.
  Json eval(const Words& options) const {
    return run_json(Words{"eval"} + options +
                    Words{"--text", eval_, "--seq-len", "64", "--max-tokens", "256"});
  }
};

TEST_F(ComputeOption, SimulatedEvaluationIsTheSameToTheLastDigit) {
  run_well({llama_, "--method", "rtn", "--bits", "w8a8", "-o", "q", "--quiet"});
  EXPECT_EQ(eval({"q"}), eval({"q", "--simulate"}));
}

TEST_F(ComputeOption, Int8RoundsTheInputsOfWeightsInCodes) {
  run_well({llama_, "--method", "rtn", "--bits", "w4a16", "-o", "q", "--quiet"});
  const Json exact = eval({"q"}), rounded = eval({"q", "--compute", "int8"});
  EXPECT_NE(exact["perplexity"], rounded["perplexity"]);
  EXPECT_NEAR(rounded["perplexity"].get<double>() / exact["perplexity"].get<double>(), 1, 0.02);
  EXPECT_EQ(eval({"q", "--compute", "int8", "--simulate"}), rounded);
  EXPECT_EQ(eval({"q", "--compute", "float"}), exact);
  const Json models = run_json({"bench", llama_, "q", "--compute", "int8", "--prompt", "4", "--generate", "2",
                                "--repeat", "1"})["models"];
  EXPECT_EQ(models[0]["compute"], "float");
  EXPECT_EQ(models[1]["compute"], "int8");
}

TEST_F(ComputeOption, LinearsThatStayAsTheyAreAreCounted) {
  run_well({llama_, "--method", "rtn", "--bits", "w4a16", "--skip", "*.down_proj", "-o", "q", "--quiet"});
  const ProcessResult result = run({"eval", "q", "--compute", "int8", "--text", eval_, "--max-tokens", "64"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_NE(result.err.find("24 of 28 linears"), std::string::npos) << result.err;
}

TEST_F(ComputeOption, PlainLoopsAreSaidToBeSlow) {
  ::setenv("PTQ_ISA", "plain", 1);
  const ProcessResult result = run({"eval", llama_, "--text", eval_, "--max-tokens", "16"});
  ::unsetenv("PTQ_ISA");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_NE(result.err.find("plain loops, as PTQ_ISA asks"), std::string::npos) << result.err;
}

TEST_F(ComputeOption, Int8ThatWouldChangeNothingIsAUsageError) {
  run_well({llama_, "--method", "rtn", "--bits", "w8a8", "-o", "q", "--quiet"});
  for (const std::string& model : {std::string("q"), llama_}) {
    const std::vector<std::string> words = {"--compute int8", model, "w4a16"};
    expect_error({"eval", model, "--text", eval_, "--compute", "int8"}, 2, words);
    expect_error({"generate", model, "--prompt", "a", "--compute", "int8"}, 2, words);
    expect_error({"bench", model, "--compute", "int8"}, 2, words);
  }
  expect_error({"eval", "q", "--text", eval_, "--compute", "int4"}, 2, {"--compute", "int4"});
}

}  // namespace
}  // namespace ptq
