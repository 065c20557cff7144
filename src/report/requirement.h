// A comparison of one number of a report with a limit: absolute, or relative to another number.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "ptq/report/check.h"

namespace ptq {

enum class Comparison { kLess, kAtMost, kMore, kAtLeast, kEqual, kUnequal };

// limit = factor * reference + offset, or offset alone if there is no reference.
struct Requirement {
  std::string pointer{};  // of the value. An array or object counts as its length
  Comparison comparison = Comparison::kAtMost;
  std::string reference{};     // pointer of the reference; empty: none
  bool from_baseline = false;  // the reference is the baseline's, not the report's own
  double factor = 0;
  double offset = 0;
};

// "POINTER OP VALUE", where OP is < <= > >= == or != and VALUE a number, `baseline`, or `baseline` and * + or
// - and a number. Throws a usage error, naming `option`, for anything else.
Requirement parse_requirement(const std::string& option, const std::string& text);

// The whole text as a finite number; nullopt if it is none.
std::optional<double> parse_number(std::string_view text);

// "12.5", or "1e-05": six digits; integers whole.
std::string short_number(double value);

// `baseline` may be null if the requirement does not need it.
Verdict judge_requirement(const Requirement& requirement, const std::string& threshold,
                          const StoredReport& report, const StoredReport* baseline);

}  // namespace ptq
