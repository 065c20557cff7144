#include "ptq/report/report_diff.h"

#include <gtest/gtest.h>

#include "report/sample_report.h"

namespace ptq {
namespace {

Json diff(const Report& a, const Report& b) {
  return diff_reports(parse_report(to_json(a), "a"), parse_report(to_json(b), "b"));
}

TEST(ReportDiff, EqualReportsHaveEqualLayers) {
  const Json json = diff(full_report(), full_report());
  EXPECT_EQ(json["summary"]["same"], 3);
  EXPECT_EQ(json["summary"]["changed"], 0);
  EXPECT_EQ(json["summary"]["worst_change_db"], 0.0);
  EXPECT_TRUE(json["recipe"].empty());
  EXPECT_EQ(report_diff_text(json).find("layer  "), std::string::npos);
}

TEST(ReportDiff, ChangesOfLayersAreNamedAndSummed) {
  Report b = full_report();
  b.layers[0].output_sqnr_db = 17.0;
  b.layers[1].output_sqnr_db = 11.0;
  b.layers[1].bits = 8;
  b.layers[2].name = "l.other";
  const Json json = diff(full_report(), b);
  EXPECT_EQ(json["layers"][0]["status"], "changed");
  EXPECT_EQ(json["layers"][0]["change_db"], -3.0);
  EXPECT_EQ(json["layers"][2]["status"], "only a");
  EXPECT_EQ(json["layers"][3]["status"], "only b");
  EXPECT_TRUE(json["layers"][3]["sqnr_db_b"].is_null());
  const Json& summary = json["summary"];
  EXPECT_EQ(summary["mean_change_db"], -1.0);
  EXPECT_EQ(summary["worst_change_db"], -3.0);
  EXPECT_EQ(summary["worst_layer"], "l.in");
  const std::string text = report_diff_text(json);
  EXPECT_NE(
      text.find("layers: 0 the same, 2 changed, 1 in A alone, 1 in B alone; output SQNR -1.00 dB in the "
                "mean, worst -3.00 dB (l.in)"),
      std::string::npos)
      << text;
}

TEST(ReportDiff, ChangedWeightAloneIsAChange) {
  Report b = full_report();
  b.layers[2].weight_sqnr_db = 30.0;
  EXPECT_EQ(diff(full_report(), b)["layers"][2]["status"], "changed");
}

TEST(ReportDiff, RecipesAndNumbersAreCompared) {
  Report b = full_report();
  b.recipe["steps"][0]["bits"] = 4;
  b.recipe["skip"] = {"*.x"};
  b.quality.reset();
  b.warnings = {"w"};
  const Json json = diff(full_report(), b);
  EXPECT_EQ(json["recipe"].dump(),
            R"([{"pointer":"/skip","a":[],"b":null},{"pointer":"/skip/0","a":null,"b":"*.x"},)"
            R"({"pointer":"/steps/0/bits","a":8,"b":4}])");
  EXPECT_EQ(json["numbers"][1]["pointer"], "/quality/perplexity_quantized");
  EXPECT_EQ(json["numbers"][1]["a"], 11.0);
  EXPECT_TRUE(json["numbers"][1]["b"].is_null());
  EXPECT_NE(report_diff_text(json).find("warnings"), std::string::npos);
}

}  // namespace
}  // namespace ptq
