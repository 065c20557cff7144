// Arbitrary bytes as a report: an Error, or a report that can be checked against itself and shown.
#include <cstdint>
#include <string_view>

#include "ptq/base/error.h"
#include "ptq/report/check.h"
#include "ptq/report/html.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const ptq::Json json = ptq::parse_json({reinterpret_cast<const char*>(data), size}, "input");
    const ptq::StoredReport report = ptq::parse_report(json, "input");
    ptq::html_page(report);
    ptq::summary(report.report, "output");
    ptq::kinds_table(report.report);
    const auto verdicts = ptq::check(ptq::default_thresholds(), report, &report);
    ptq::junit_xml(verdicts, "input");
    ptq::check_text(verdicts);
  } catch (const ptq::Error&) {
  }
  return 0;
}
