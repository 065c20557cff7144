// What the parts of the reader check alike.
#pragma once

#include <ATen/ATen.h>

#include <string>

#include "ptq/base/error.h"

namespace ptq {

// Throws Error unless all scales are positive, or 0 where that is allowed, and finite.
inline void check_positive(const at::Tensor& scale, const std::string& name, bool zero_allowed = false) {
  const at::Tensor good = at::isfinite(scale) & (zero_allowed ? scale >= 0 : scale > 0);
  const auto bad = (scale.numel() - good.sum()).item<int64_t>();
  if (bad != 0)
    throw Error(name, std::to_string(bad) + " of " + std::to_string(scale.numel()) + " scales are not " +
                          (zero_allowed ? "finite, or negative" : "positive and finite"));
}

}  // namespace ptq
