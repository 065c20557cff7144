// GPTQ (arXiv 2210.17323): each column's rounding error is made up for in the columns that follow.
//
// Weight-only at 4 bits in groups, as it is mostly used; per channel with `group=0`. With activations, these
// are rounded per token as rtn does, and the weights per channel.
#include "method/bits.h"
#include "method/method_steps.h"

namespace ptq {

std::vector<MethodOption> gptq_options() {
  return {
      {"group", "auto", "auto | 0 | 8 to 65536",
       "weights that share a scale; 0: a row; auto: 128 where activations stay float and weights have less "
       "than 8 bits"},
      {"symmetric", false, "true | false", "no zero points for weights"},
      {"damping", 0.01, "above 0 to 1", "added to the second moment's diagonal, of its mean"},
      {"order_by_activation", false, "true | false", "round columns with large inputs first"},
      {"clip", "auto", "auto | search | above 0 to 1",
       "what is kept of a row's or group's range; auto: search up to 4 bits, else 1"},
  };
}

std::vector<StepConfig> gptq_steps(const std::string& bits_text, JsonFields& options) {
  const Bits bits = parse_bits(bits_text);
  const Json given = options.at("group");
  const bool grouped = bits.activations == 16 && bits.weights < 8;
  const int64_t group = given == "auto" ? (grouped ? 128 : 0) : options.integer("group", 0);
  const Json clip = options.at("clip");
  Json step = {{"bits", bits.weights},
               {"symmetric", options.boolean("symmetric", false)},
               {"granularity", group != 0 ? "group" : "channel"},
               {"damping", options.number("damping", 0.01)},
               {"order_by_activation", options.boolean("order_by_activation", false)},
               {"clip", clip == "auto" ? (bits.weights <= 4 ? Json("search") : Json(1)) : clip}};
  if (group != 0) step["group"] = group;
  std::vector<StepConfig> steps;
  if (bits.activations < 16) {
    steps.push_back({"activations", dynamic_activations(bits.activations, bits.activations == 8)});
  }
  steps.push_back({"gptq", step});
  return steps;
}

}  // namespace ptq
