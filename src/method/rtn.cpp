// Round to nearest: what every method is compared with.
#include "method/method_steps.h"

namespace ptq {

Json rtn_defaults() {
  return {{"group", 128}};
}

std::vector<StepConfig> rtn_steps(const std::string& bits, JsonFields& options) {
  const int64_t group = options.integer("group", 128);
  if (bits == "w4a16") return {{"rtn", {{"bits", 4}, {"granularity", "group"}, {"group", group}}}};
  std::vector<StepConfig> steps = {{"rtn", {{"bits", 8}, {"granularity", "channel"}}}};
  if (bits == "w8a8")
    steps.push_back({"activations", {{"scales", "dynamic"}, {"bits", 8}, {"sites", "linear_inputs"}}});
  return steps;
}

}  // namespace ptq
