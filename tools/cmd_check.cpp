// quantize check REPORT: whether a report meets thresholds; the gate of a CI job.
#include <fmt/format.h>

#include "ptq/base/error.h"
#include "ptq/base/result_file.h"
#include "ptq/report/check.h"
#include "report_commands.h"

namespace ptq {
namespace {

std::vector<Threshold> thresholds_of(const CheckOptions& options) {
  const std::vector<ThresholdOption>& table = threshold_options();
  std::vector<Threshold> thresholds;
  for (size_t i = 0; i < table.size(); ++i) {
    for (const std::string& value : options.values[i])
      thresholds.push_back(table[i].make(table[i].name, value));
  }
  if (!thresholds.empty()) return thresholds;
  if (!options.baseline.empty()) return default_thresholds();
  std::string names;
  for (const ThresholdOption& option : table) names += (names.empty() ? "" : ", ") + std::string(option.name);
  throw usage_error("check", "no threshold is given, and no --baseline to compare with", "one of " + names);
}

}  // namespace

void check_command(const CheckOptions& options, const CommonOptions& common) {
  const std::vector<Threshold> thresholds = thresholds_of(options);
  if (options.annotate && common.json)
    throw usage_error("--annotate", "cannot be had with --json: stdout holds one or the other");
  if (!options.junit.empty()) expect_writable_result(options.junit, options.force);
  const StoredReport report = read_report(options.report);
  StoredReport baseline;
  if (!options.baseline.empty()) baseline = read_report(options.baseline);
  const std::vector<Verdict> verdicts =
      check(thresholds, report, options.baseline.empty() ? nullptr : &baseline);

  if (!options.junit.empty())
    write_result(options.junit, junit_xml(verdicts, "quantize check " + report.path), options.force);
  if (common.json) {
    print(check_json(verdicts, report.path, baseline.path).dump(1) + "\n");
  } else {
    print(check_text(verdicts) + (options.annotate ? github_annotations(verdicts, report.path) : ""));
  }
  const int64_t missed = count_missed(verdicts);
  if (missed > 0) {
    throw Error(report.path, fmt::format("misses {} of {} thresholds", missed, verdicts.size()), "",
                ExitCode::kThresholdMissed);
  }
}

}  // namespace ptq
