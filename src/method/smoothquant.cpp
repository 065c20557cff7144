// SmoothQuant (arXiv 2211.10438): the fold edges smoothed, then plain rounding: static W8A8, and below 8
// bits, where one scale for all tokens is hopeless, the dynamic rounding of rtn.
#include "method/bits.h"
#include "method/method_steps.h"

namespace ptq {

std::vector<MethodOption> smoothquant_options() {
  return {
      {"alpha", 0.5, "0 to 1", "how much of the outliers moves into the weights"},
      {"activations", "auto", "auto | static | dynamic",
       "one scale a site, or one a token; auto: static at 8 bits"},
  };
}

std::vector<StepConfig> smoothquant_steps(const std::string& bits_text, JsonFields& options) {
  const Bits bits = parse_bits(bits_text);
  const double alpha = options.number("alpha", 0.5);
  std::string scales = options.string("activations", "auto");
  if (scales == "auto") scales = bits.weights == 8 ? "static" : "dynamic";
  std::vector<StepConfig> steps = {{"smooth", {{"alpha", alpha}}}};
  if (scales != "dynamic") {
    steps.push_back({"rtn", {{"bits", bits.weights}, {"granularity", "tensor"}, {"tensors", "all"}}});
    steps.push_back({"activations", {{"scales", scales}, {"bits", bits.activations}, {"sites", "all"}}});
    return steps;
  }
  for (const StepConfig& step : dynamic_rounding(bits)) steps.push_back(step);
  return steps;
}

}  // namespace ptq
