// Round to nearest: what every method is compared with.
//
// Weight-only at 4 bits in groups with a symmetric scale; with activations, a scale for each output channel
// and each token, with zero points below 8 bits, where half the codes would be lost without.
#include "method/bits.h"
#include "method/method_steps.h"

namespace ptq {

std::vector<MethodOption> rtn_options() {
  return {
      {"group", 128, "8 to 65536", "weights that share a scale, at w4a16"},
  };
}

std::vector<StepConfig> rtn_steps(const std::string& bits_text, JsonFields& options) {
  const int64_t group = options.integer("group", 128);
  const Bits bits = parse_bits(bits_text);
  if (bits.weights == 4 && bits.activations == 16) {
    return {{"rtn", {{"bits", 4}, {"granularity", "group"}, {"group", group}}}};
  }
  return dynamic_rounding(bits);
}

}  // namespace ptq
