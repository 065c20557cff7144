// Thresholds on the output SQNR of layers, one layer at a time. Each maker throws a usage error for a value
// that is not of its form.
#pragma once

#include <string>

#include "ptq/report/check.h"

namespace ptq {

// N: every layer that was measured has at least N dB. A linear layer that was rounded and has no value misses
// it.
Threshold min_sqnr_db(const std::string& option, const std::string& value);

// PATTERN=N: the same for the layers whose names match a shell pattern. Matching none misses it.
Threshold layer_min_sqnr(const std::string& option, const std::string& value);

// N: every layer that the baseline measured has at least the baseline's value less N dB. A layer that is not
// in the report misses it; one that the report keeps in float does not.
Threshold max_sqnr_drop_db(const std::string& option, const std::string& value);

}  // namespace ptq
