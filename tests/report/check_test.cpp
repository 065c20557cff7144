#include "ptq/report/check.h"

#include <gtest/gtest.h>

#include "base/expect_error.h"
#include "report/sample_report.h"

namespace ptq {
namespace {

StoredReport stored(const Report& report) {
  return parse_report(to_json(report), "r");
}

Threshold threshold(const std::string& name, const std::string& value) {
  for (const ThresholdOption& option : threshold_options()) {
    if (name == option.name) return option.make(name, value);
  }
  ADD_FAILURE() << "no option " << name;
  return {};
}

Verdict judge(const std::string& name, const std::string& value, const Report& report = full_report(),
              const Report* baseline = nullptr) {
  const StoredReport subject = stored(report);
  if (baseline == nullptr) return check({threshold(name, value)}, subject, nullptr).at(0);
  const StoredReport reference = stored(*baseline);
  return check({threshold(name, value)}, subject, &reference).at(0);
}

bool met(const std::string& name, const std::string& value) {
  return judge(name, value).met;
}
bool met_against(const Report& baseline, const std::string& name, const std::string& value) {
  return judge(name, value, full_report(), &baseline).met;
}

bool required(const std::string& text) {
  return met("--require", text);
}

TEST(Check, EveryOperatorComparesWithTheValue) {
  EXPECT_TRUE(required("/quality/perplexity_quantized <= 11"));
  EXPECT_FALSE(required("/quality/perplexity_quantized < 11"));
  EXPECT_TRUE(required("/quality/perplexity_quantized < 11.5"));
  EXPECT_TRUE(required("/quality/perplexity_quantized >= 11"));
  EXPECT_FALSE(required("/quality/perplexity_quantized > 11"));
  EXPECT_TRUE(required("/quality/perplexity_quantized == 1.1e1"));
  EXPECT_TRUE(required("/quality/perplexity_quantized!=10"));
  EXPECT_FALSE(required("/quality/perplexity_quantized != 11"));
}

TEST(Check, PointerReachesEntriesKeysAndLengths) {
  EXPECT_TRUE(required("/layers/1/output_sqnr_db == 10"));
  EXPECT_TRUE(required("/layers == 3"));
  EXPECT_TRUE(required("/fallbacks == 0"));
  EXPECT_TRUE(required("/output/files/model.safetensors == 500"));
  Report report = full_report();
  report.time_ms = {{"a b/c~<=d", 3.0}};
  EXPECT_TRUE(judge("--require", "/time_ms/a b~1c~0<=d < 4", report).met);
}

TEST(Check, MissingValueMissesTheThresholdAndSaysWhy) {
  const auto why = [](const std::string& text) {
    const Verdict verdict = judge("--require", text);
    EXPECT_FALSE(verdict.met);
    EXPECT_FALSE(verdict.limit);
    return verdict.text;
  };
  EXPECT_EQ(why("/quality/mean_kll < 1"), "there is no \"mean_kll\" in /quality, did you mean \"mean_kl\"?");
  EXPECT_EQ(why("/layers/7/bits < 1"), "/layers has no entry \"7\", it has 3");
  EXPECT_EQ(why("/layers/01/bits < 1"), "/layers has no entry \"01\", it has 3");
  EXPECT_EQ(why("/layers/2/output_sqnr_db > 1"),
            "/layers/2/output_sqnr_db is null: it was not measured, or is not finite");
  EXPECT_EQ(why("/quality/text < 1"), "/quality/text is a string, not a number");
  EXPECT_EQ(why("/quality/text/x < 1"), "/quality/text is a single value and has no \"x\"");
  EXPECT_EQ(why("/quality/mean_kl/x != 1"), "/quality/mean_kl is a single value and has no \"x\"");
}

TEST(Check, MalformedRequirementIsAUsageError) {
  for (const char* text : {"/a",
                           "/a <= ",
                           "/a <= x",
                           "/a <= 1%",
                           "/a <= 1 2",
                           "/a = 1",
                           "/a => 1",
                           "/a <> 1",
                           "a <= 1",
                           "/ <= 1",
                           "<= 1",
                           "/a~2 <= 1",
                           "/a~ <= 1",
                           "/a <= nan",
                           "/a <= inf",
                           "/a <= 1e999",
                           "/a <= baseline *",
                           "/a <= baseline / 2",
                           "/a <= baseline 2",
                           "/a <= baselines",
                           "/a <= baseline * 1 + 2",
                           ""}) {
    EXPECT_ERROR(threshold("--require", text), ExitCode::kUsage, "--require");
  }
}

TEST(Check, RequirementMayBeRelativeToTheBaseline) {
  Report baseline = full_report();
  baseline.quality->perplexity_quantized = 10.9;
  const auto against = [&](const std::string& text) { return met_against(baseline, "--require", text); };
  EXPECT_FALSE(against("/quality/perplexity_quantized <= baseline"));
  EXPECT_TRUE(against("/quality/perplexity_quantized <= baseline * 1.01"));
  EXPECT_TRUE(against("/quality/perplexity_quantized <= baseline + 0.11"));
  EXPECT_FALSE(against("/quality/perplexity_quantized <= baseline+0.09"));
  EXPECT_TRUE(against("/quality/perplexity_quantized > baseline - 0.1"));
  EXPECT_TRUE(against("/output/bytes == baseline"));
  baseline.quality.reset();
  EXPECT_EQ(judge("--require", "/quality/mean_kl <= baseline", full_report(), &baseline).text,
            "in the baseline, output quality was not measured: quantize with --eval-text or --calib");
  EXPECT_ERROR(judge("--require", "/output/bytes <= baseline"), ExitCode::kUsage, "--baseline");
}

TEST(Check, QualityOnAnotherTextCannotBeCompared) {
  Report baseline = full_report();
  baseline.quality->tokens = 64;
  const Verdict verdict = judge("--max-perplexity-increase", "1%", full_report(), &baseline);
  EXPECT_FALSE(verdict.met);
  EXPECT_NE(verdict.text.find("cannot be compared"), std::string::npos) << verdict.text;
}

TEST(Check, PerplexityIncreaseIsAgainstFloatOrTheBaseline) {
  EXPECT_TRUE(met("--max-perplexity-increase", "10%"));
  EXPECT_FALSE(met("--max-perplexity-increase", "9.9 %"));
  EXPECT_TRUE(met("--max-perplexity-increase", "1"));
  EXPECT_FALSE(met("--max-perplexity-increase", "0.9"));
  Report baseline = full_report();
  baseline.quality->perplexity_quantized = 10.95;
  EXPECT_TRUE(met_against(baseline, "--max-perplexity-increase", "1%"));
  EXPECT_FALSE(met_against(baseline, "--max-perplexity-increase", "0.1%"));
  EXPECT_TRUE(met_against(baseline, "--max-perplexity-increase", "0.06"));
}

TEST(Check, NamedThresholdsCompareTheirNumber) {
  EXPECT_TRUE(met("--max-perplexity", "11") && !met("--max-perplexity", "10.9"));
  EXPECT_TRUE(met("--max-kl", "0.01") && !met("--max-kl", "0.009"));
  EXPECT_TRUE(met("--min-top1", "90%") && met("--min-top1", "0.9") && !met("--min-top1", "0.91"));
  EXPECT_TRUE(met("--max-bytes", "500B") && met("--max-bytes", "0.5kB") && !met("--max-bytes", "499"));
  EXPECT_TRUE(met("--max-bits-per-weight", "8.25") && !met("--max-bits-per-weight", "8"));
  EXPECT_TRUE(met("--max-peak-rss", "1.1MB") && !met("--max-peak-rss", "1MB"));
  EXPECT_TRUE(met("--max-fallbacks", "0") && met("--max-warnings", "0"));
  Report report = full_report();
  report.decisions = {{"d", "kept in float", "skipped by the recipe"}};
  EXPECT_TRUE(judge("--max-fallbacks", "0", report).met);
  report.fallbacks = {{"a", "b", "c"}};
  report.warnings = {"a", "b"};
  EXPECT_FALSE(judge("--max-fallbacks", "0", report).met);
  EXPECT_FALSE(judge("--max-warnings", "1", report).met);
  Report baseline = full_report();
  baseline.output_bytes = 490;
  EXPECT_TRUE(met_against(baseline, "--max-size-increase", "3%"));
  EXPECT_FALSE(met_against(baseline, "--max-size-increase", "2%"));
  EXPECT_TRUE(met_against(baseline, "--max-size-increase", "10B"));
}

TEST(Check, WrongValuesOfOptionsAreUsageErrors) {
  for (const ThresholdOption& option : threshold_options())
    EXPECT_ERROR(option.make(option.name, "x"), ExitCode::kUsage, option.name);
  EXPECT_ERROR(threshold("--max-perplexity-increase", "-1%"), ExitCode::kUsage, "less than 0");
  EXPECT_ERROR(threshold("--max-perplexity-increase", "%"), ExitCode::kUsage, "not a number");
  EXPECT_ERROR(threshold("--min-top1", "95"), ExitCode::kUsage, "not a share");
  EXPECT_ERROR(threshold("--max-bytes", "5XB"), ExitCode::kUsage, "100MB");
  EXPECT_ERROR(threshold("--layer-min-sqnr", "=3"), ExitCode::kUsage, "PATTERN=DB");
  EXPECT_ERROR(threshold("--max-sqnr-drop-db", "-1"), ExitCode::kUsage, "less than 0");
}

TEST(Check, LayersBelowTheirSqnrAreNamedWorstFirst) {
  const Verdict verdict = judge("--min-sqnr-db", "25");
  ASSERT_EQ(verdict.layers.size(), 2U);
  EXPECT_EQ(verdict.layers[0].name, "l.out");
  EXPECT_EQ(verdict.layers[0].value_db, 10.0);
  EXPECT_EQ(verdict.layers[1].name, "l.in");
  EXPECT_EQ(verdict.text, "10.00 dB (l.out), at least 25.00 dB; 2 of 2 layers miss it");
  EXPECT_TRUE(judge("--min-sqnr-db", "10").met);
}

TEST(Check, RoundedLinearWithoutSqnrMissesTheThreshold) {
  Report report = full_report();
  report.layers[0].output_sqnr_db.reset();
  const Verdict verdict = judge("--min-sqnr-db", "5", report);
  ASSERT_EQ(verdict.layers.size(), 1U);
  EXPECT_EQ(verdict.layers[0].name, "l.in");
  EXPECT_FALSE(verdict.layers[0].value_db);
  report.layers[0].granularity.clear();  // kept in float: there is nothing to measure
  EXPECT_TRUE(judge("--min-sqnr-db", "5", report).met);
  report.layers.clear();
  EXPECT_EQ(judge("--min-sqnr-db", "5", report).text, "no layer of the report has an output SQNR");
}

TEST(Check, PatternSelectsLayers) {
  EXPECT_TRUE(met("--layer-min-sqnr", "*.in=15"));
  EXPECT_FALSE(met("--layer-min-sqnr", "*.o*=15"));
  const Verdict none = judge("--layer-min-sqnr", "m.*=15");
  EXPECT_FALSE(none.met);
  EXPECT_EQ(none.text, "no layer with an output SQNR matches \"m.*\"");
}

TEST(Check, SqnrMayDropByTheTolerance) {
  Report baseline = full_report();
  baseline.layers[0].output_sqnr_db = 20.5;
  EXPECT_TRUE(met_against(baseline, "--max-sqnr-drop-db", "0.5"));
  EXPECT_FALSE(met_against(baseline, "--max-sqnr-drop-db", "0.4"));
  Report report = full_report();
  report.layers[0].name = "l.other";
  const Verdict gone = judge("--max-sqnr-drop-db", "0.5", report, &baseline);
  ASSERT_EQ(gone.layers.size(), 1U);
  EXPECT_EQ(gone.layers[0].name, "l.in");
  report = full_report();
  report.layers[0].output_sqnr_db.reset();
  report.layers[0].granularity.clear();  // in float it has lost nothing
  EXPECT_TRUE(judge("--max-sqnr-drop-db", "0.5", report, &baseline).met);
}

TEST(Check, DefaultsHoldAReportAgainstItselfAndNoWorseOne) {
  const StoredReport report = stored(full_report());
  EXPECT_EQ(count_missed(check(default_thresholds(), report, &report)), 0);
  Report worse = full_report();
  worse.quality->perplexity_quantized = 11.2;
  worse.layers[0].output_sqnr_db = 18.9;
  worse.output_bytes = 506;
  worse.fallbacks = {{"a", "b", "c"}};
  const auto verdicts = check(default_thresholds(), stored(worse), &report);
  EXPECT_EQ(count_missed(verdicts), static_cast<int64_t>(verdicts.size()));
}

std::vector<Verdict> sample_verdicts() {
  return {{.threshold = "--max-kl 1", .met = true, .text = "0.5, at most 1", .value = 0.5, .limit = 1.0},
          {.threshold = "--require /a<b <= 1",
           .text = "50 %, \"x\"\xEF\xBF\xBE\x01",
           .layers = {{"l&1", 3.0, 4.0}}}};
}

TEST(Check, TextListsLayersAndCounts) {
  EXPECT_EQ(check_text({sample_verdicts()[0]}), "ok    --max-kl 1  0.5, at most 1\n1 threshold, all met\n");
  const std::string text = check_text(sample_verdicts());
  EXPECT_NE(text.find("\n        l&1 3.00 dB, at least 4.00 dB\n2 thresholds, 1 missed\n"), std::string::npos)
      << text;
}

TEST(Check, JunitEscapesAndCounts) {
  const std::string xml = junit_xml(sample_verdicts(), "s");
  EXPECT_NE(xml.find("<testsuite name=\"s\" tests=\"2\" failures=\"1\""), std::string::npos) << xml;
  EXPECT_NE(xml.find("name=\"--require /a&lt;b &lt;= 1\""), std::string::npos) << xml;
  EXPECT_NE(xml.find("message=\"50 %, &quot;x&quot;??\">"), std::string::npos) << xml;
  EXPECT_NE(xml.find("l&amp;1 3.00 dB"), std::string::npos) << xml;
}

TEST(Check, AnnotationsAreOneLineForEachMiss) {
  EXPECT_EQ(github_annotations({{.threshold = "t", .text = "50 %", .layers = {{"l", {}, 4.0}}}}, "a:b,c"),
            "::error title=quantize check a%3Ab%2Cc::t: 50 %25%0Al has no output SQNR, at least 4.00 dB\n");
  EXPECT_EQ(github_annotations({sample_verdicts()[0]}, "r"), "");
}

TEST(Check, JsonHasEveryLayer) {
  const Json json = check_json(sample_verdicts(), "r", "");
  EXPECT_EQ(json["passed"], false);
  EXPECT_TRUE(json["baseline"].is_null());
  EXPECT_EQ(json["thresholds"][0]["value"], 0.5);
  EXPECT_EQ(json["thresholds"][1]["layers"][0].dump(), R"({"name":"l&1","value_db":3.0,"limit_db":4.0})");
}

}  // namespace
}  // namespace ptq
