// Quamba with static scales of parts and channels, and with a state in codes.
#include <gtest/gtest.h>

#include "cases.h"
#include "ptq/engine/evaluate.h"
#include "ptq/verify/verify.h"

namespace ptq {
namespace {

struct Setting {
  const char* architecture;
  const char* scales;
  const char* weights;

  friend void PrintTo(const Setting& setting, std::ostream* out) {
    *out << setting.architecture << " " << setting.scales << " " << setting.weights;
  }
};

const Setting kSettings[] = {
    {"mamba", "channel", "channel"}, {"mamba", "part", "part"},          {"mamba2", "channel", "part"},
    {"mamba2", "part", "part"},      {"falcon-h1", "channel", "tensor"}, {"jamba", "channel", "channel"},
    {"mamba2", "tensor", "tensor"},
};

class StaticScales : public ::testing::TestWithParam<Setting> {
 protected:
  static Recipe recipe(const std::string& state) {
    RecipeOptions options;
    options.method = "quamba";
    options.bits = "w8a8";
    options.sets = {std::string("quamba.scales=") + GetParam().scales,
                    std::string("quamba.weights=") + GetParam().weights, "quamba.state=" + state, "samples=8",
                    "seq_len=16"};
    return resolve_recipe(options);
  }
  const Workbench bench_{toy_for(GetParam().architecture).make(0)};
};

TEST_P(StaticScales, AreWrittenReadBackPlannedAndVerified) {
  const Plan plan = bench_.plan("out", recipe("int8"));
  const Report report = bench_.run("out", recipe("int8"));
  EXPECT_EQ(plan.output_bytes, report.output_bytes);
  ASSERT_EQ(plan.sites.size(), report.sites.size());
  EXPECT_GT(sqnr_of_logits(bench_, "out"), 12);
  const Verification found = verify_artifact(bench_.output("out"), bench_.source(), {});
  for (const Finding& finding : found.findings) ADD_FAILURE() << finding.where << ": " << finding.what;
  EXPECT_TRUE(found.compared);
  const OpenModel open = open_model(bench_.output("out"), {}, at::kCPU);
  size_t wide = 0, states = 0;
  for (int64_t i = 0; i < open.model->num_blocks(); ++i) {
    const std::unique_ptr<Block> block = open.model->load_block(i);
    for (const Site* site : block->sites()) {
      const Tensor& scale = site->quantizer.scale;
      if (scale.defined() && scale.numel() > 1) {
        ++wide;
        EXPECT_EQ(scale.numel(), site->channels) << site->name;
      }
      if (site->kind == kStateSite && scale.defined()) ++states;
    }
  }
  EXPECT_GT(states, 0U);
  const bool more =
      std::string(GetParam().scales) == "channel" ||
      (std::string(GetParam().scales) == "part" && GetParam().architecture != std::string("mamba"));
  EXPECT_EQ(wide > states, more);
}

// In windows a state costs nothing; token by token it does.
TEST_P(StaticScales, CostInDecodingAloneWhereTheyAreOfAState) {
  bench_.run("float", recipe("float"));
  bench_.run("int8", recipe("int8"));
  const auto nll = [&](const char* name, Feeding feeding) {
    const OpenModel open = open_model(bench_.output(name), {}, at::kCPU);
    return evaluate(*open.model, bench_.ids(), nullptr, [] {}, {}, feeding).mean_nll();
  };
  EXPECT_EQ(nll("float", Feeding::kWindows), nll("int8", Feeding::kWindows));
  const double decoded = nll("int8", Feeding::kTokens), exact = nll("float", Feeding::kTokens);
  EXPECT_NE(decoded, exact);
  EXPECT_NEAR(decoded, exact, 0.2);  // seven windows show little of a state
}

INSTANTIATE_TEST_SUITE_P(Settings, StaticScales, ::testing::ValuesIn(kSettings), [](const auto& setting) {
  std::string name = setting.param.architecture;
  std::erase(name, '-');
  return name + "_" + setting.param.scales + "_" + setting.param.weights;
});

}  // namespace
}  // namespace ptq
