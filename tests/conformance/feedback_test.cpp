// Runs with error feedback: weights are rounded for the inputs that the rounded model gives.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "cases.h"
#include "ptq/verify/verify.h"

namespace ptq {
namespace {

struct Setting {
  const char* architecture;
  const char* method;
  const char* bits;

  friend void PrintTo(const Setting& setting, std::ostream* out) {
    *out << setting.architecture << " " << setting.method << " " << setting.bits;
  }
};

// Two sites a sublayer and four, inputs rounded or not, transforms, experts, parallel parts, a correction.
const Setting kSettings[] = {
    {"llama", "gptq", "w4a16"},     {"llama", "duquant", "w4a4"}, {"llama", "qera", "gptq:int4-g128"},
    {"mamba", "gptq", "w4a8"},      {"mamba2", "gptq", "w4a16"},  {"mixtral", "gptq", "w4a16"},
    {"falcon-h1", "gptq", "w4a16"}, {"mamba", "rtn", "w4a16"},
};

class WithFeedback : public ::testing::TestWithParam<Setting> {
 protected:
  static Recipe recipe(double strength) {
    Recipe recipe = toy_recipe(GetParam().method, GetParam().bits);
    recipe.feedback.strength = strength;
    return recipe;
  }
  const Workbench bench_{toy_for(GetParam().architecture).make(0)};
};

TEST_P(WithFeedback, ChangesWeightsAndIsTheSameForAnyNumberOfThreads) {
  bench_.run("off", recipe(0));
  const int threads = at::get_num_threads();
  for (const int count : {1, 2}) {
    at::set_num_threads(count);
    bench_.run(std::to_string(count), recipe(0.5));
  }
  at::set_num_threads(threads);
  const std::string weights = bench_.read("1", "model.safetensors");
  EXPECT_TRUE(weights == bench_.read("2", "model.safetensors"));
  EXPECT_TRUE(bench_.read("1", "config.json") == bench_.read("2", "config.json"));
  EXPECT_FALSE(weights == bench_.read("off", "model.safetensors"));
}

TEST_P(WithFeedback, IsPlannedAndVerifies) {
  const Plan plan = bench_.plan("out", recipe(0.5));
  const Report report = bench_.run("out", recipe(0.5));
  EXPECT_EQ(plan.output_bytes, report.output_bytes);
  const Verification found = verify_artifact(bench_.output("out"), bench_.source(), {});
  for (const Finding& finding : found.findings) ADD_FAILURE() << finding.where << ": " << finding.what;
  EXPECT_TRUE(found.compared);
}

INSTANTIATE_TEST_SUITE_P(Settings, WithFeedback, ::testing::ValuesIn(kSettings),
                         [](const auto& setting) { return std::to_string(setting.index); });

// Where the layers before have lost much and there is text enough to learn from.
TEST(Feedback, TakesBackSomeOfWhatRoundingCosts) {
  const Workbench bench(testing::toy_llama(kLlamaSizes[1]));
  Recipe recipe = toy_recipe("gptq", "w4a16");
  bench.run("off", recipe);
  recipe.feedback.strength = 0.5;
  bench.run("on", recipe);
  EXPECT_GT(sqnr_of_logits(bench, "on"), sqnr_of_logits(bench, "off"));
}

}  // namespace
}  // namespace ptq
