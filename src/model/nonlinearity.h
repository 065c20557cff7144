// The functions that feed-forwards apply to each value.
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <string>

#include "model/layout.h"

namespace ptq {

// f(scale * x) in the place of x, which is returned.
Tensor& apply(Nonlinearity f, Tensor& x, double scale = 1);

// The p for which f(c^p x) = c f(x) for every c > 0; none if there is none.
std::optional<double> scale_power(Nonlinearity f);

// The function that the configuration names under `key`, or `fallback`. Throws Error for one that is not
// done.
Nonlinearity read_nonlinearity(JsonFields& fields, const std::string& key, const std::string& fallback);

}  // namespace ptq
