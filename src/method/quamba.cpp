// Quamba (arXiv 2410.13229): everything in a Mamba block at INT8 with one static scale a tensor and a site.
//
// Two places need care. The input of the scan, u, feeds a recurrence: a scale stretched by a rare huge value
// costs every later token, so u is clipped at a percentile. The output of the scan, y, has outliers in most
// channels: it is rotated by a Hadamard matrix before it is rounded, and out_proj's columns with it. Both are
// switches; without them this is plain static W8A8, with the rotation alone the QuaRot-like baseline.
//
// What stands between the mixers of a hybrid, attention and feed-forwards, is no part of the paper: its
// linears are rounded with a scale a row and a token, and queries, keys and values stay in float.
//
// At 4 bits (Quamba2, arXiv 2503.22879) linears are rounded by GPTQ in groups; what is too small for
// that, or does not bear it, is kept at 8.
#include "method/bits.h"
#include "method/method_steps.h"
#include "ptq/base/choice.h"
#include "ptq/base/error.h"

namespace ptq {
namespace {

std::vector<StepConfig> weight_steps(int bits, bool rest, const std::string& granularity, int64_t group) {
  if (bits == 8)
    return {{"rtn", {{"bits", 8}, {"granularity", granularity}, {"tensors", "all"}, {"sites", "ssm"}}}};
  const Json sites = rest ? Json::array({"ssm", "rest"}) : Json("ssm");
  return {
      {"gptq",
       {{"bits", bits}, {"granularity", "group"}, {"group", group}, {"clip", "search"}, {"sites", sites}}},
      {"rtn", {{"bits", 8}, {"granularity", granularity}, {"tensors", "rest"}, {"sites", sites}}}};
}

// Options that these bits or choices do nothing with must be left as they are.
void expect_defaults(JsonFields& options, std::initializer_list<const char*> keys, const std::string& why) {
  const Json defaults = find_method("quamba").default_options();
  for (const char* key : keys) {
    if (options.at(key) != defaults.at(key))
      throw usage_error("quamba." + std::string(key), "is for " + why, "leave it out");
  }
}

void expect_used(const Bits& bits, JsonFields& options) {
  if (bits.weights == 8) expect_defaults(options, {"group"}, "weights of 4 bits");
  if (bits.activations == 16)
    expect_defaults(options, {"activations"}, "activations that are rounded, as w8a8 and w4a8 do");
  if (bits.activations == 16 || options.at("activations") == "dynamic")
    expect_defaults(options, {"percentile", "observer", "clip", "search_rows", "scales"},
                    "static scales of activations");
}

Json static_activations(JsonFields& options) {
  return {{"scales", "static"},
          {"bits", 8},
          {"sites", "ssm"},
          {"granularity", options.string("scales", "channel")},
          {"percentile_site", "ssm.x"},
          {"percentile", options.at("percentile")},
          {"observer", options.string("observer", "moving")},
          {"clip", options.string("clip", "all")},
          {"search_rows", options.integer("search_rows", 4)}};
}

}  // namespace

std::vector<MethodOption> quamba_options() {
  return {
      {"percentile", "auto", "auto | above 0 to 1",
       "share of |u| that the scale of the scan's input u covers; 1: all; auto: by the mixer's error"},
      {"hadamard", true, "true | false", "rotate the scan's output before it is rounded"},
      {"activations", "static", "static | dynamic", "one scale a site, or one a token"},
      {"scales", "channel", "tensor | part | channel",
       "static scales of sites that no product of codes reads: one a site; one for each of x, B, C, each "
       "group and each cluster of heads; one a channel"},
      {"observer", "moving", "moving | exact",
       "the percentile: the authors' moving mean over windows, or that of all values"},
      {"clip", "all", "all | percentile_site",
       "which static scales are chosen by the mixer's error, with percentile=auto"},
      {"search_rows", 4, "1 or more", "held-out windows that the error is measured on"},
      {"weights", "channel", "tensor | part | channel",
       "scales of 8-bit weights: one a tensor; one for each kind of rows (z, x, B, C, dt); one a row"},
      {"group", 128, "8 to 65536", "4-bit weights that share a scale"},
      {"rest", "dynamic8", "dynamic8 | float",
       "linears of a hybrid that are in no state-space mixer: INT8 per token, or as they are"},
      {"state", "float", "float | int8", "the scan's state between tokens, with a scale a channel"},
  };
}

std::vector<StepConfig> quamba_steps(const std::string& bits_text, JsonFields& options) {
  const Bits bits = parse_bits(bits_text);
  const bool hadamard = options.boolean("hadamard", true);
  const std::string scales = options.string("activations", "static");
  const std::string weights = options.string("weights", "channel");
  const int64_t group = options.integer("group", 128);
  const bool rest = choice(options, "rest", true, {{"dynamic8", true}, {"float", false}});
  const bool float_state = choice(options, "state", true, {{"float", true}, {"int8", false}});
  const Json of_mixers = static_activations(options);
  expect_used(bits, options);
  std::vector<StepConfig> steps;
  if (hadamard) steps.push_back({"hadamard", {{"site", "ssm.output"}}});
  for (const StepConfig& step : weight_steps(bits.weights, rest, weights, group)) steps.push_back(step);
  if (bits.activations < 16) {
    const Json dynamic = {{"scales", scales}, {"bits", 8}, {"sites", "ssm"}};
    steps.push_back({"activations", scales == "static" ? of_mixers : dynamic});
  }
  // A forward without a state, as clips are searched with, knows nothing of what its rounding costs.
  if (!float_state)
    steps.push_back(
        {"activations",
         {{"scales", "static"}, {"bits", 8}, {"sites", "ssm.state"}, {"granularity", "channel"}}});
  if (rest && bits.weights == 8)
    steps.push_back({"rtn", {{"bits", 8}, {"granularity", "channel"}, {"sites", "rest"}}});
  if (rest && bits.activations < 16)
    steps.push_back({"activations", {{"scales", "dynamic"}, {"bits", 8}, {"sites", "rest"}}});
  return steps;
}

}  // namespace ptq
