#include "ptq/report/rows.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/expect_error.h"
#include "report/sample_report.h"

namespace ptq {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

Report example() {
  Report report;
  LayerRow layer;
  layer.name = "a.\"b\"";
  layer.shape = {3, 4};
  layer.bits = 4;
  layer.group = 128;
  layer.weight_sqnr_db = kInfinity;
  layer.relative_error = 0.1 + 0.2;
  report.layers = {layer, LayerRow()};
  SiteRow site;
  site.scale = -0.0;
  site.amax = std::numeric_limits<double>::quiet_NaN();
  site.peak_before = std::numeric_limits<double>::denorm_min();
  site.rotation_steps = {1, -2};
  report.sites = {site};
  report.blocks = {{7, -kInfinity, 1e300, 0}};
  report.fallbacks = {{"x", "kept in float", "skipped"}};
  report.decisions = {{"y", "kept in float", "asked"}};
  report.warnings = {"one", ""};
  return report;
}

TEST(ReportRows, AreReadBackToTheLastBit) {
  const std::string text = rows_to_json(example()).dump();
  Report report;
  report.warnings = {"to be replaced"};
  rows_from_json(parse_json(text, "rows"), "rows", report);
  EXPECT_EQ(rows_to_json(report).dump(), text);
  EXPECT_EQ(report.layers[0].relative_error, 0.1 + 0.2);
  EXPECT_EQ(report.layers[0].weight_sqnr_db, kInfinity);
  EXPECT_FALSE(report.layers[1].group.has_value());
  EXPECT_TRUE(std::isnan(*report.sites[0].amax));
  EXPECT_TRUE(std::signbit(*report.sites[0].scale));
  EXPECT_EQ(report.blocks[0].output_sqnr_db, -kInfinity);
  EXPECT_EQ(to_json(report).dump(), [] {
    Report same = example();
    return to_json(same).dump();
  }());
}

TEST(ReportRows, EveryFieldIsReadBack) {
  Report report;
  rows_from_json(rows_to_json(filled_report()), "rows", report);
  EXPECT_EQ(rows_to_json(report), rows_to_json(filled_report()));
}

TEST(ReportRows, WrongOnesAreAnErrorThatNamesThePlace) {
  const auto expect_wrong = [](const char* list, const Json& row, const std::string& words) {
    Json json = rows_to_json(example());
    json[list] = Json::array({row});
    Report report;
    EXPECT_ERROR(rows_from_json(json, "state", report), ExitCode::kFailed, words);
  };
  expect_wrong("layers", Json::object(), "state.layers");
  expect_wrong("layers", 3, "state.layers");
  expect_wrong("warnings", 3, "state.warnings");
  Json site = rows_to_json(example())["sites"][0];
  site["scale"] = "wide";
  expect_wrong("sites", site, "state.sites");
  Json block = rows_to_json(example())["blocks"][0];
  block["index"] = 0.5;
  expect_wrong("blocks", block, "state.blocks");
  Report report;
  EXPECT_ERROR(rows_from_json(Json::object(), "state", report), ExitCode::kFailed, "\"layers\" is missing");
}

}  // namespace
}  // namespace ptq
