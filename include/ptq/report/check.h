// Thresholds that a report must meet: the gate of a CI job.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "ptq/report/read_report.h"

namespace ptq {

struct FailedLayer {
  std::string name;
  std::optional<double> value_db;  // nullopt: the report has none
  double limit_db = 0;
};

// What became of one threshold.
struct Verdict {
  std::string threshold;  // as it was asked: "--max-kl 0.01"
  bool met = false;
  std::string text{};  // "0.0033, at most 0.01"; or why there is nothing to compare
  std::optional<double> value{};
  std::optional<double> limit{};
  std::vector<FailedLayer> layers{};  // of a threshold on layers: those that miss it, worst first
};

// One thing asked of a report. A value that is missing, null or no number misses every threshold.
struct Threshold {
  std::string text;
  bool needs_baseline = false;
  std::function<Verdict(const StoredReport& report, const StoredReport* baseline)> judge;
};

// A row of the table of thresholds: an option of `quantize check`.
struct ThresholdOption {
  const char* name;        // "--max-kl"
  const char* value_form;  // "N", "N|P%", "SIZE"
  const char* description;
  // Throws a usage error for a value that is not of this form.
  Threshold (*make)(const std::string& option, const std::string& value);
};

const std::vector<ThresholdOption>& threshold_options();

// What is asked with a baseline if nothing else is: as good and as small as the baseline, within a tolerance
// for another CPU.
std::vector<Threshold> default_thresholds();

// One verdict a threshold, in order. Throws a usage error if one needs a baseline and there is none.
std::vector<Verdict> check(const std::vector<Threshold>& thresholds, const StoredReport& report,
                           const StoredReport* baseline);

// How many are not met.
int64_t count_missed(const std::vector<Verdict>& verdicts);

// For people: one line a threshold, and the layers that miss it.
std::string check_text(const std::vector<Verdict>& verdicts);
// {"report", "baseline", "passed", "thresholds": [{"threshold", "met", "text", "value", "limit", "layers":
// [{"name", "value_db", "limit_db"}]}]}; `baseline` may be empty.
Json check_json(const std::vector<Verdict>& verdicts, const std::string& report, const std::string& baseline);
// JUnit XML: one test suite, one test case a threshold. `name` is the suite's.
std::string junit_xml(const std::vector<Verdict>& verdicts, const std::string& name);
// GitHub's workflow commands: a line "::error title=...::..." for each threshold that is missed.
std::string github_annotations(const std::vector<Verdict>& verdicts, const std::string& name);

}  // namespace ptq
