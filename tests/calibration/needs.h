// What the tests ask for at a site.
#pragma once

#include <utility>
#include <vector>

#include "ptq/calibration/statistics.h"

namespace ptq {

inline SiteNeeds percentiles(std::vector<double> p, PercentileMode mode) {
  SiteNeeds needs;
  needs.percentiles = std::move(p);
  needs.mode = mode;
  return needs;
}

}  // namespace ptq
