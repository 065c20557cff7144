// quantize check: exit codes, what is printed, what is written.
#include "cli/cli.h"

namespace ptq {
namespace {

class Check : public Cli {
 protected:
  // The same on every machine: a small report whose numbers a test can change.
  std::string write_report(const std::string& name, const char* pointer = nullptr,
                           const Json& value = {}) const {
    Json json = parse_json(R"({"schema_version": 1, "program": {"name": "quantize", "version": "9.9"},
      "layers": [
       {"name": "m.0.q", "role": "linear", "bits": 4, "granularity": "channel", "output_sqnr_db": 21.5},
       {"name": "m.1.q", "role": "linear", "bits": 4, "granularity": "channel", "output_sqnr_db": 18.25}],
      "quality": {"text": "t", "tokens": 100, "perplexity_float": 10.0, "perplexity_quantized": 10.2,
                  "mean_kl": 0.02, "top1_agreement": 0.9},
      "output": {"bytes": 1000, "bits_per_weight": 4.5, "files": {}}, "fallbacks": [], "warnings": []})",
                           "report");
    if (pointer != nullptr) json[Json::json_pointer(pointer)] = value;
    return directory_.write(name, json.dump());
  }
};

TEST_F(Check, MetThresholdsExitWithZero) {
  const std::string report = write_report("r.json");
  const ProcessResult result = run_well({"check", report, "--max-perplexity-increase", "2%", "--min-sqnr-db",
                                         "18", "--require", "/quality/perplexity_quantized <= 12.5"});
  EXPECT_NE(result.out.find("3 thresholds, all met"), std::string::npos) << result.out;
  EXPECT_EQ(result.err, "");
}

TEST_F(Check, MissedThresholdExitsWithThreeAndNamesTheLayers) {
  write_report("r.json");
  const ProcessResult result = run({"check", "r.json", "--min-sqnr-db", "20", "--max-kl", "0.1"});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_NE(result.out.find("m.1.q 18.25 dB, at least 20.00 dB"), std::string::npos) << result.out;
  EXPECT_EQ(result.out.find("m.0.q"), std::string::npos) << result.out;
  EXPECT_EQ(result.err, "error: r.json: misses 1 of 2 thresholds\n");
}

TEST_F(Check, JsonIsOneDocumentWithEveryVerdict) {
  write_report("r.json");
  const ProcessResult result = run({"check", "r.json", "--min-sqnr-db", "20", "--max-kl", "0.1", "--json"});
  EXPECT_EQ(result.exit_code, 3);
  const Json json = parse_json(result.out, "stdout");
  EXPECT_EQ(json["passed"], false);
  ASSERT_EQ(json["thresholds"].size(), 2U);
  EXPECT_EQ(json["thresholds"][0]["met"], true);
  EXPECT_EQ(json["thresholds"][1]["layers"][0]["name"], "m.1.q");
}

TEST_F(Check, JunitAndAnnotationsSayWhatWasMissed) {
  write_report("r.json");
  const Words missed = {"check", "r.json", "--min-sqnr-db", "20", "--junit", "j.xml", "--annotate"};
  const ProcessResult result = run(missed);
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_NE(result.out.find("\n::error title=quantize check r.json::--min-sqnr-db 20: 18.25 dB"),
            std::string::npos)
      << result.out;
  const std::string xml = directory_.read("j.xml");
  EXPECT_EQ(xml.find("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites tests=\"1\" failures=\"1\""),
            0U)
      << xml;
  expect_error(missed, 1, {"j.xml: already exists", "--force"});
  EXPECT_EQ(run(missed + Words{"--force"}).exit_code, 3);
  EXPECT_EQ(directory_.list(), (Words{"j.xml", "r.json"}));
}

TEST_F(Check, BaselineAloneSetsTheDefaults) {
  write_report("base.json");
  write_report("same.json");
  write_report("worse.json", "/quality/perplexity_quantized", 10.31);
  EXPECT_NE(run_well({"check", "same.json", "--baseline", "base.json"}).out.find("4 thresholds, all met"),
            std::string::npos);
  const ProcessResult worse = run({"check", "worse.json", "--baseline", "base.json"});
  EXPECT_EQ(worse.exit_code, 3);
  EXPECT_NE(worse.out.find("MISS  --max-perplexity-increase 1%"), std::string::npos) << worse.out;
}

TEST_F(Check, NullIsAMissNotAPass) {
  write_report("r.json", "/quality", nullptr);
  const ProcessResult result = run({"check", "r.json", "--max-perplexity-increase", "5%"});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_NE(result.out.find("output quality was not measured"), std::string::npos) << result.out;
}

TEST_F(Check, WrongUsageIsExplained) {
  write_report("r.json");
  expect_error({"check", "r.json"}, 2, {"no threshold", "--baseline", "--min-sqnr-db", "--require"});
  expect_error({"check", "r.json", "--min-sqnr", "3"}, 2, {"--min-sqnr", "did you mean \"--min-sqnr-db\"?"});
  expect_error({"check", "r.json", "--require", "/a = 3"}, 2, {"--require", "< <= > >= == !="});
  expect_error({"check", "r.json", "--max-size-increase", "1%"}, 2, {"--max-size-increase 1%", "--baseline"});
  expect_error({"check", "r.json", "--max-kl", "1", "--annotate", "--json"}, 2, {"--annotate", "--json"});
  expect_error({"check", "--max-kl", "1"}, 2, {"REPORT"});
  expect_error({"check", "r.json", "--max-kl", "1", "--junit", "none/j.xml"}, 1, {"none is not a directory"});
}

TEST_F(Check, ReportsThatCannotBeReadAreErrors) {
  const auto wrong = [&](const std::string& text, const Words& words) {
    directory_.write("bad.json", text);
    expect_error({"check", "bad.json", "--max-kl", "1"}, 1, words);
  };
  wrong("", {"bad.json"});
  wrong("{\"schema_version\": 1", {"bad.json: not valid JSON"});
  wrong("[]", {"expected an object"});
  wrong("{}", {"not a report of quantize", "report.json"});
  wrong(R"({"schema_version": 1, "schema_version": 1})", {"occurs twice"});
  wrong(R"({"schema_version": 2, "program": {"version": "9.9"}})",
        {"schema version 2", "reads version 1", "quantize 9.9"});
  wrong(R"({"schema_version": 1, "layers": 3})", {"bad.json.layers", "expected an array"});
  wrong(std::string(100, '[') + std::string(100, ']'), {"deeper than"});
  expect_error({"check", "none.json", "--max-kl", "1"}, 1, {"none.json"});
  std::filesystem::create_directory(directory_ / "empty");
  expect_error({"check", "empty", "--max-kl", "1"}, 1, {"empty: has no report.json"});
}

TEST_F(Check, ReportLargerThanTheLimitIsNotRead) {
  const std::string path = write_report("r.json");
  std::filesystem::resize_file(path, uint64_t{1} << 40);
  expect_error({"check", "r.json", "--max-kl", "1"}, 1, {"r.json", "at most 67108864"});
}

TEST_F(Check, RealRunMeetsThresholdsOfItsOwnReport) {
  quantize({"--method", "quamba"}, "q");
  const ProcessResult result = run_well({"check", "q", "--baseline", "q/report.json"});
  EXPECT_NE(result.out.find("4 thresholds, all met"), std::string::npos) << result.out;
  run_well({"check", "q", "--min-sqnr-db", "10", "--max-perplexity-increase", "10%"});
}

}  // namespace
}  // namespace ptq
