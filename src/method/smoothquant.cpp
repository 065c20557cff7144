// SmoothQuant (arXiv 2211.10438): the fold edges smoothed, then the same rounding as static W8A8.
#include "method/method_steps.h"

namespace ptq {

Json smoothquant_defaults() {
  return {{"alpha", 0.5}, {"activations", "static"}};
}

std::vector<StepConfig> smoothquant_steps(const std::string&, JsonFields& options) {
  const double alpha = options.number("alpha", 0.5);
  const std::string scales = options.string("activations", "static");
  return {{"smooth", {{"alpha", alpha}}},
          {"rtn", {{"bits", 8}, {"granularity", "tensor"}, {"tensors", "all"}}},
          {"activations", {{"scales", scales}, {"bits", 8}, {"sites", "all"}}}};
}

}  // namespace ptq
