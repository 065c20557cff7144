// Round to nearest: what every method is compared with.
//
// Weight-only at 4 bits in groups with a symmetric scale; with activations, a scale for each output channel
// and each token, with zero points below 8 bits, where half the codes would be lost without.
#include "method/bits.h"
#include "method/method_steps.h"

namespace ptq {

Json rtn_defaults() {
  return {{"group", 128}};
}

std::vector<StepConfig> rtn_steps(const std::string& bits_text, JsonFields& options) {
  const int64_t group = options.integer("group", 128);
  const Bits bits = parse_bits(bits_text);
  if (bits.weights == 4 && bits.activations == 16) {
    return {{"rtn", {{"bits", 4}, {"granularity", "group"}, {"group", group}}}};
  }
  const bool symmetric_weights = bits.weights == 8;
  std::vector<StepConfig> steps = {
      {"rtn", {{"bits", bits.weights}, {"granularity", "channel"}, {"symmetric", symmetric_weights}}}};
  if (bits.activations < 16) {
    steps.push_back({"activations", dynamic_activations(bits.activations, bits.activations == 8)});
  }
  return steps;
}

}  // namespace ptq
