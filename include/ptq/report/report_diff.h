// What differs between two reports.
#pragma once

#include <string>

#include "ptq/report/read_report.h"

namespace ptq {

// {"kind": "reports", "a", "b": the paths,
//  "numbers": [{"pointer", "a", "b"}]: quality, sizes, counts, memory; null where a report has none,
//  "recipe": [{"pointer", "a", "b"}]: the fields of the recipes that differ,
//  "layers": [{"name", "status": "same" | "changed" | "only a" | "only b", "bits_a", "bits_b", "sqnr_db_a",
//              "sqnr_db_b", "change_db", "weight_sqnr_db_a", "weight_sqnr_db_b"}]: by name, in the order of
//              a, then those of b alone,
//  "summary": {"same", "changed", "only_a", "only_b", "mean_change_db", "worst_change_db", "worst_layer"}}
// A layer is changed if its bits or an SQNR of it are; change_db is the output SQNR of b less that of a.
Json diff_reports(const StoredReport& a, const StoredReport& b);

// The same for people; layers that are the same are counted, not listed.
std::string report_diff_text(const Json& diff);

}  // namespace ptq
