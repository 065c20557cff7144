// Runs whose recipe needs no activations: no text is written or read, and the report says what it does not
// know.
#include <unistd.h>

#include "cli/resume.h"
#include "cli/tiny_mamba.h"
#include "ptq/report/json_schema.h"

namespace ptq {
namespace {

class DataFree : public ResumeCli {
 protected:
  const Words rtn_ = {llama_, "--method", "rtn", "--bits", "w8a8", "--threads", "1"};
};

TEST_F(DataFree, RunWithoutATextReportsWeightsAndNothingElse) {
  const ProcessResult result = run_well(rtn_ + Words{"-o", "out"});
  EXPECT_EQ(result.err.find("calibration text"), std::string::npos) << result.err;
  for (const char* part :
       {"which needs no calibration", "weights       SQNR", "was not measured: --eval-text or --calib"})
    EXPECT_NE(result.out.find(part), std::string::npos) << part << " in " << result.out;
  const Json json = report("out");
  EXPECT_TRUE(json["calibration"].is_null());
  EXPECT_TRUE(json["quality"].is_null());
  ASSERT_GT(json["layers"].size(), 20U);
  for (const Json& layer : json["layers"]) {
    EXPECT_GT(layer["weight_sqnr_db"].get<double>(), 35) << layer;
    EXPECT_TRUE(layer["output_sqnr_db"].is_null() && layer["error_share"].is_null()) << layer;
  }
  ASSERT_EQ(json["blocks"].size(), 4U);
  for (const Json& block : json["blocks"])
    EXPECT_TRUE(block["output_sqnr_db"].is_null() && block["max_abs_error"].is_null()) << block;
  ASSERT_GT(json["sites"].size(), 0U);
  for (const Json& site : json["sites"])
    EXPECT_TRUE(site["quantizer"] == "dynamic" && site["peak_before"].is_null() &&
                site["clipped_fraction"].is_null())
        << site;
  EXPECT_EQ(json["time_ms"].count("calibrate"), 0U);
  EXPECT_EQ(json["time_ms"].count("calibration tokens"), 1U);
  for (const std::string& error : schema_errors(read_json_file(PTQ_REPORT_SCHEMA), json))
    ADD_FAILURE() << error;
}

TEST_F(DataFree, WeightsAreThoseOfARunWithAText) {
  run_well(rtn_ + Words{"-o", "out", "--quiet"});
  run_well(rtn_ + small_ + Words{"-o", "calibrated", "--quiet"});
  EXPECT_TRUE(weights("out") == weights("calibrated"));
  EXPECT_TRUE(report("calibrated")["quality"].is_object());
  EXPECT_EQ(report("calibrated")["calibration"]["kept_aside"], 8);
}

TEST_F(DataFree, EvalTextMeasuresQuality) {
  run_well(rtn_ + Words{"-o", "out", "--eval-text", calib_, "--seq-len", "64", "--quiet"});
  const Json json = report("out");
  EXPECT_TRUE(json["calibration"].is_null());
  EXPECT_LT(json["quality"]["perplexity_float"].get<double>(), 200);
  EXPECT_EQ(json["quality"]["text"], "shakespeare-calib.txt");
}

TEST_F(DataFree, OutputIsVerifiedComparedAndShown) {
  run_well(rtn_ + Words{"-o", "out", "--quiet"});
  run_well(rtn_ + small_ + Words{"-o", "calibrated", "--quiet"});
  run_well({"verify", "out", "--source", llama_});
  run_well({"diff", "out/report.json", "calibrated/report.json"});
  run_well({"diff", "calibrated/report.json", "out/report.json"});
  run_well({"report", "out", "--html", "page.html"});
  const std::string page = directory_.read("page.html");
  EXPECT_NE(page.find("not measured"), std::string::npos);
  EXPECT_NE(page.find("not calibrated"), std::string::npos);
  EXPECT_EQ(page.find("nan"), std::string::npos);
  run_well({"report", "out"});
  run_well({"check", "out", "--max-bytes", "2MB"});
  const ProcessResult checked = run({"check", "out", "--max-perplexity-increase", "1%"});
  EXPECT_EQ(checked.exit_code, 3);
  EXPECT_NE((checked.out + checked.err).find("quality was not measured"), std::string::npos)
      << checked.out << checked.err;
}

TEST_F(DataFree, PlanSaysSo) {
  const Json planned = run_json(Words{"plan"} + rtn_);
  EXPECT_TRUE(planned["calibration"].is_null());
  EXPECT_EQ(planned["operations"], 0.0);
  EXPECT_NE(run_well(Words{"plan"} + rtn_).out.find("none is needed"), std::string::npos);
  run_well(rtn_ + Words{"-o", "out", "--quiet"});
  EXPECT_EQ(planned["output"]["bytes"], report("out")["output"]["bytes"]);
}

TEST_F(DataFree, RewritesAreCheckedWithoutAText) {
  Json recipe = run_json({model_, "--method", "quamba", "--print-recipe"});
  recipe["steps"].erase(2);  // static scales, which need data
  directory_.write("recipe.json", recipe.dump());
  run_well({model_, "--recipe", "recipe.json", "-o", "out", "--quiet"});
  const Json json = report("out");
  EXPECT_TRUE(json["calibration"].is_null());
  EXPECT_EQ(json["recipe"]["steps"][0]["step"], "hadamard");
  EXPECT_EQ(json["time_ms"].count("hadamard"), 1U);
  run_well({"verify", "out", "--source", model_});
}

TEST_F(DataFree, RunThatWasStoppedGoesOn) {
  run_well(rtn_ + Words{"-o", "whole", "--quiet"});
  if (!killed_after(rtn_ + every_block_ + Words{"-o", "out"}, 1))
    GTEST_SKIP() << "the run was faster than the signal";
  run_well(rtn_ + Words{"-o", "out", "--quiet", "--resume"});
  expect_same_output("whole", "out");
}

// Header of a Mamba whose weights are a hole in the file: nothing of it is read by plan.
TEST_F(DataFree, ModelTooLargeToWriteItsOwnTextNeedsOne) {
  testing::TinyMamba tiny;
  const int64_t vocabulary = 70'000'000;
  Json header = Json::object();
  int64_t end = 0;
  for (auto& [name, shape] : tiny.shapes) {
    std::vector<int64_t> large = shape;
    if (name == "backbone.embeddings.weight") large[0] = vocabulary;
    int64_t bytes = 2;
    for (const int64_t size : large) bytes *= size;
    header[name] = {{"dtype", "F16"}, {"shape", large}, {"data_offsets", {end, end + bytes}}};
    end += bytes;
  }
  const std::string path = directory_.write("large.safetensors", testing::safetensors(header.dump(), ""));
  ASSERT_EQ(::truncate(path.c_str(), static_cast<int64_t>(std::filesystem::file_size(path)) + end), 0);
  expect_error({"plan", path, "--method", "quamba", "--seq-len", "128"}, 1,
               {"--calib: is missing", "1.12 GB", "1.07 GB", "127 times", "--calib FILE"});
  run_well({"plan", path, "--method", "rtn"});
  const ProcessResult given = run({"plan", path, "--method", "quamba", "--samples", "2", "--seq-len", "8",
                                   "--calib", "ids.bin", "--token-dtype", "u16"});
  EXPECT_EQ(given.err.find("is missing"), std::string::npos);
}

}  // namespace
}  // namespace ptq
