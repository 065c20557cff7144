#include "ptq/report/report.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "ptq/base/file.h"
#include "ptq/report/json_schema.h"
#include "report/sample_report.h"

namespace ptq {
namespace {

const double kNan = std::numeric_limits<double>::quiet_NaN();
const double kInfinity = std::numeric_limits<double>::infinity();

const Json& schema() {
  static const Json json = report_schema();
  return json;
}

bool accepted(const Json& report) {
  return schema_errors(schema(), report).empty();
}

// The report with the value at a JSON pointer replaced.
Json with(const char* pointer, const Json& value) {
  Json json = to_json(full_report());
  json[Json::json_pointer(pointer)] = value;
  return json;
}

TEST(Report, ErrorSharesOfLayersAndOfBlocksAddUpToOne) {
  const Json json = to_json(full_report());
  EXPECT_DOUBLE_EQ(json["layers"][0]["error_share"].get<double>(), 0.25);
  EXPECT_DOUBLE_EQ(json["layers"][1]["error_share"].get<double>(), 0.75);
  EXPECT_EQ(json["layers"][2]["error_share"], 0.0);
  EXPECT_EQ(json["blocks"][0]["error_share"], 1.0);
  Report exact = full_report();
  exact.blocks[0].relative_error = 0;
  EXPECT_TRUE(to_json(exact)["blocks"][0]["error_share"].is_null());
}

TEST(Report, FullReportFitsTheSchema) {
  for (const std::string& error : schema_errors(schema(), to_json(full_report()))) ADD_FAILURE() << error;
}

TEST(Report, SchemaInTheTreeIsMadeOfTheDeclarations) {
  const auto in_tree = nlohmann::json::parse(read_file(PTQ_REPORT_SCHEMA));
  const auto declared = nlohmann::json::parse(report_schema().dump());
  EXPECT_EQ(in_tree, declared) << "the patch that " << PTQ_REPORT_SCHEMA
                               << " needs: " << nlohmann::json::diff(in_tree, declared).dump(1);
}

TEST(Report, MutatedReportsDoNotFitTheSchema) {
  ASSERT_TRUE(accepted(with("/layers/0/bits", 4)));
  EXPECT_FALSE(accepted(with("/layers/0/bits", "8")));
  EXPECT_FALSE(accepted(with("/layers/0/granularity", "row")));
  EXPECT_FALSE(accepted(with("/layers/0/shape", {0, 2})));
  EXPECT_FALSE(accepted(with("/layers/0/correction", Json::object())));
  EXPECT_FALSE(accepted(with("/layers/0/more", 1)));
  EXPECT_FALSE(accepted(with("/sites/0/scale", -1)));
  EXPECT_FALSE(accepted(with("/layers/0/error_share", 1.5)));
  EXPECT_FALSE(accepted(with("/sites/0/quantizer", "fixed")));
  EXPECT_FALSE(accepted(with("/blocks/0/index", 0.5)));
  EXPECT_FALSE(accepted(with("/quality", "good")));
  EXPECT_FALSE(accepted(with("/schema_version", 2)));
  EXPECT_FALSE(accepted(with("/source/files/m.pt", 1)));
  EXPECT_FALSE(accepted(with("/output/files/x", "1")));
  EXPECT_FALSE(accepted(with("/time_ms/write", nullptr)));
  EXPECT_FALSE(accepted(with("/warnings", nullptr)));
  EXPECT_FALSE(accepted(with("/extra", 1)));
}

TEST(Report, EveryFieldIsRequired) {
  const Json whole = to_json(full_report());
  for (const auto& [key, value] : whole.items()) {
    Json without = whole;
    without.erase(key);
    // Those of earlier versions do not have these.
    EXPECT_EQ(accepted(without), key == "decisions" || key == "loads_in" || key == "routing") << key;
  }
}

TEST(Report, AbsentAndNonFiniteValuesAreNull) {
  Report report = full_report();
  report.layers[0].weight_sqnr_db = kInfinity;
  report.layers[0].output_sqnr_db = kNan;
  report.blocks[0].output_sqnr_db = -kInfinity;
  report.blocks[0].max_abs_error = kNan;
  report.quality->perplexity_quantized = kInfinity;
  const Json json = to_json(report);
  EXPECT_TRUE(json["layers"][0]["weight_sqnr_db"].is_null());
  EXPECT_TRUE(json["layers"][0]["output_sqnr_db"].is_null());
  EXPECT_TRUE(json["blocks"][0]["output_sqnr_db"].is_null());
  EXPECT_TRUE(json["blocks"][0]["max_abs_error"].is_null());
  EXPECT_TRUE(json["quality"]["perplexity_quantized"].is_null());
  EXPECT_TRUE(json["sites"][1]["scale"].is_null());
  EXPECT_TRUE(json["layers"][2]["granularity"].is_null());
  EXPECT_TRUE(accepted(json));
  report.quality.reset();
  EXPECT_TRUE(to_json(report)["quality"].is_null());
  EXPECT_TRUE(accepted(to_json(report)));
}

TEST(Report, TimesKeepTheirOrderAndOneDigit) {
  EXPECT_EQ(to_json(full_report())["time_ms"].dump(), R"({"write":1500.0,"quality":500.0})");
}

TEST(Report, TableAlignsTheFirstColumnLeftAndTheOthersRight) {
  EXPECT_EQ(text_table({"name", "bits"}, {{"a", "8"}, {"longer", "16"}}),
            "name    bits\n"
            "a          8\n"
            "longer    16\n");
}

TEST(Report, BytesAreDecimal) {
  EXPECT_EQ(format_bytes(640), "640 B");
  EXPECT_EQ(format_bytes(9'100'000), "9.10 MB");
  EXPECT_EQ(format_number(1.005, 1), "1.0");
}

TEST(Report, SummaryNamesTheWorstLayerAndGroupsFallbacks) {
  Report report = full_report();
  report.fallbacks = {{"a", "kept in float", "too small"},
                      {"b", "kept in float", "too small"},
                      {"c", "rotated in blocks", "odd"}};
  report.decisions = {{"d", "kept in float", "skipped by the recipe"}};
  report.loads_in = {{"vllm", "awq"}, {"vllm", "gptq"}, {"llama.cpp", "gguf"}};
  report.warnings = {"fewer rows"};
  const std::string text = summary(report, "out");
  EXPECT_NE(text.find("m.pt -> out\n"), std::string::npos) << text;
  EXPECT_NE(text.find("worst layer   l.out, output SQNR 10.0 dB"), std::string::npos) << text;
  EXPECT_NE(text.find("not as asked, 3:\n  a and 1 more: kept in float (too small)\n"), std::string::npos);
  EXPECT_NE(text.find("decisions, 1:\n  d: kept in float (skipped by the recipe)\n"), std::string::npos)
      << text;
  EXPECT_NE(text.find("warnings, 1:\n  fewer rows\n"), std::string::npos) << text;
  EXPECT_NE(text.find("10.000 -> 11.000 (+10.00 %) on a.txt, 63 tokens"), std::string::npos) << text;
  EXPECT_NE(text.find("2.0 s"), std::string::npos) << text;
}

}  // namespace
}  // namespace ptq
