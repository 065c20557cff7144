// Mixtures of experts: what reports say of where tokens go.
#include <gtest/gtest.h>

#include <numeric>

#include "cases.h"

namespace ptq {
namespace {

// Each calibration token goes to as many experts as the configuration says: what an observer is shown besides
// is not counted.
TEST(Routing, EveryCalibrationTokenIsCountedOnceForEachOfItsExperts) {
  for (const char* name : {"mixtral", "olmoe", "jamba", "nemotron-h"}) {
    const ToyModel toy = toy_for(name).make(0);
    const Workbench bench(toy);
    const Report report = bench.run("out", toy_recipe("gptq", "w4a16"));
    ASSERT_FALSE(report.routing.empty()) << name;
    const int64_t chosen = toy.config.at("num_experts_per_tok").get<int64_t>();
    const int64_t tokens = report.calibration.at("tokens").get<int64_t>() / bench.ids().size(0) *
                           (bench.ids().size(0) - report.calibration.at("kept_aside").get<int64_t>());
    for (const RoutingRow& row : report.routing) {
      EXPECT_EQ(std::accumulate(row.calibrated.begin(), row.calibrated.end(), int64_t{0}), tokens * chosen)
          << name << " " << row.name;
      ASSERT_TRUE(row.changed.has_value()) << name;
      EXPECT_GE(*row.changed, 0);
      EXPECT_LT(*row.changed, 1);
    }
    // An expert that saw none is named, and only such.
    for (const Remark& remark : report.fallbacks) {
      if (remark.why.find("no calibration token goes to expert") == std::string::npos) continue;
      const auto expert = std::stoul(remark.why.substr(remark.why.rfind(' ') + 1));
      EXPECT_TRUE(std::ranges::any_of(report.routing,
                                      [&](const RoutingRow& row) { return row.calibrated.at(expert) == 0; }));
    }
  }
}

TEST(Routing, ChoicesOfAModelThatIsNotRoundedStay) {
  Recipe recipe = toy_recipe("rtn", "w8a16");
  recipe.skip = {"*"};
  const Workbench bench(toy_for("mixtral").make(0));
  const Report report = bench.run("out", recipe);
  ASSERT_FALSE(report.routing.empty());
  for (const RoutingRow& row : report.routing) {
    EXPECT_TRUE(row.calibrated.empty());
    EXPECT_EQ(row.changed, 0.0);
  }
}

TEST(Routing, ModelsWithoutExpertsHaveNone) {
  const Workbench bench(toy_for("llama").make(0));
  EXPECT_TRUE(bench.run("out", toy_recipe("gptq", "w4a16")).routing.empty());
}

}  // namespace
}  // namespace ptq
