#include "ptq/model/model.h"

#include <cmath>

#include "ptq/base/error.h"
#include "ptq/base/suggest.h"
#include "ptq/ops/ops.h"

namespace ptq {

Site& Block::site(const std::string& name) {
  std::vector<std::string> names;
  for (Site* site : sites()) {
    if (site->name == name) return *site;
    names.push_back(site->name);
  }
  throw Error(prefix(), "no activation site \"" + name + "\"", suggest(name, names));
}

void expect_finite(const Tensor& values, const std::string& where, const std::string& what) {
  // The largest magnitude shows NaN as well as infinity; only then are they counted.
  if (values.numel() == 0 || std::isfinite(ops::abs_max_rows(values).max().item<float>())) return;
  const auto bad = (values.numel() - at::isfinite(values).sum()).item<int64_t>();
  throw Error(
      where,
      std::to_string(bad) + " of " + std::to_string(values.numel()) + " values of " + what +
          " are NaN or infinite, and all before it are finite",
      "the weights before it are too large for float32, or the checkpoint is damaged: `quantize inspect` "
      "shows the largest value of each tensor");
}

}  // namespace ptq
