// DuQuant (arXiv 2406.01721): 4-bit weights and activations for transformers.
//
// Outliers of activations are first moved into the weights (smoothing), then spread inside blocks (rotation),
// dealt out over blocks (zigzag permutation) and spread again (second rotation). Then both sides are rounded
// to nearest, activations per token, weights per output channel, both with a zero point. Queries, keys and
// values are rounded too, queries and keys after a Hadamard rotation.
//
// The default differs from the paper where that measured better: Hadamard matrices for the searched
// rotations, which are as good and need no search; GPTQ for round-to-nearest, with the clip of each weight
// row by its output error for the fixed 0.8; activations clipped at 0.8 of a token's range instead of 0.9,
// queries and keys not at all. The paper's own recipe:
//   rotation=greedy peak=range rounding=rtn clip=0.8 activation_clip=0.9 attention_clip=0.9
#include "method/bits.h"
#include "method/method_steps.h"

namespace ptq {
namespace {

// A number, or what "auto" stands for.
double number_or_auto(JsonFields& options, const std::string& key, double automatic) {
  return options.has(key) && options.at(key) == "auto" ? automatic : options.number(key, automatic);
}

// From 6 bits on there is room for the whole range, and a clip only hurts.
double default_clip(int activation_bits) {
  return activation_bits <= 4 ? 0.8 : 1;
}

// Smoothing, rotation, permutation, rotation.
std::vector<StepConfig> input_rewrites(const Bits& bits, JsonFields& options) {
  const std::string kind = options.string("rotation", "hadamard");
  const Json block = options.at("block");
  const int64_t seed = options.integer("seed", 0);
  const double alpha = options.number("alpha", 0.6);
  const bool second = options.boolean("second_rotation", true);
  Json rotate = {{"kind", kind},
                 {"block", block},
                 {"steps", options.integer("steps", 256)},
                 {"peak", options.string("peak", "magnitude")},
                 {"signs", options.string("signs", "none")},
                 {"seed", seed}};
  if (kind == "auto") {
    rotate["weight_bits"] = bits.weights;
    rotate["activation_bits"] = bits.activations;
    rotate["clip_factor"] = number_or_auto(options, "activation_clip", default_clip(bits.activations));
  }
  std::vector<StepConfig> steps;
  if (options.boolean("smooth", true)) {
    steps.push_back({"smooth", {{"alpha", alpha}, {"floor", 1e-2}, {"columns", "first"}}});
  }
  if (kind != "none") steps.push_back({"rotate", rotate});
  if (options.boolean("permute", true)) steps.push_back({"zigzag", {{"block", block}}});
  if (kind == "none" || !second) return steps;
  rotate["signs"] = "none";
  rotate["seed"] = seed + 1;
  steps.push_back({"rotate", rotate});
  return steps;
}

// Inputs of linears and, where asked, queries, keys and values.
std::vector<StepConfig> activation_steps(int bits, JsonFields& options) {
  const bool symmetric = options.boolean("symmetric_activations", false);
  const double clip = number_or_auto(options, "activation_clip", default_clip(bits));
  const double attention_clip = number_or_auto(options, "attention_clip", 1);
  const bool attention = options.boolean("attention", true);
  const bool qk_hadamard = options.boolean("qk_hadamard", true);
  if (bits == 16) return {};
  const auto round = [&](double factor, const Json& sites) {
    return StepConfig{"activations",
                      {{"scales", "dynamic"},
                       {"bits", bits},
                       {"symmetric", symmetric},
                       {"clip_factor", factor},
                       {"sites", sites}}};
  };
  std::vector<StepConfig> steps;
  if (attention && qk_hadamard) steps.push_back({"qk_hadamard", {{"pairs", "attention"}}});
  steps.push_back(round(clip, "linear_inputs"));
  if (!attention) return steps;
  steps.push_back(round(attention_clip, Json::array({"attn.q", "attn.k"})));
  steps.push_back(round(1, "attn.v"));
  return steps;
}

StepConfig weight_step(int bits, JsonFields& options) {
  const int64_t group = options.integer("group", 0);
  const std::string given = options.string("rounding", "auto");
  const std::string rounding = given != "auto" ? given : (bits <= 6 ? "gptq" : "rtn");
  const std::string moment = options.string("moment", "float");
  const Json clip = options.at("clip");
  Json step = {{"bits", bits}, {"symmetric", options.boolean("symmetric_weights", false)}};
  step["granularity"] = group != 0 ? "group" : "channel";
  if (group != 0) step["group"] = group;
  step["clip"] = clip == "auto" ? (bits <= 4 ? Json("search") : Json(1)) : clip;
  if (rounding == "gptq") step["moment"] = moment;
  return {rounding, step};
}

}  // namespace

std::vector<MethodOption> duquant_options() {
  return {
      {"smooth", true, "true | false", "move outliers of inputs into the weights first"},
      {"alpha", 0.6, "0 to 1", "how much of them: 0 none, 1 all"},
      {"rotation", "hadamard", "hadamard | greedy | auto | none",
       "of blocks of channels: Hadamard matrices, the paper's search, the better of both"},
      {"permute", true, "true | false",
       "deal channels out over blocks in zigzag order after the first rotation"},
      {"second_rotation", true, "true | false", "rotate again after the permutation"},
      {"block", "auto", "auto | a size that divides the channels", "channels that are rotated together"},
      {"steps", 256, "1 or more", "of the greedy search"},
      {"peak", "magnitude", "magnitude | range",
       "what the greedy search lowers: the largest |x|, or the range of x"},
      {"signs", "none", "none | random", "flip channels at random before the first rotation"},
      {"seed", 0, "a number", "of the random signs and of the greedy search"},
      {"qk_hadamard", true, "true | false", "rotate queries and keys before they are rounded"},
      {"attention", true, "true | false", "round queries, keys and values"},
      {"activation_clip", "auto", "auto | above 0 to 1",
       "what is kept of a token's range at inputs of linears; auto: 0.8 at 4 bits, else 1"},
      {"attention_clip", "auto", "auto | above 0 to 1", "the same of queries and keys; auto: 1"},
      {"symmetric_activations", false, "true | false", "no zero points for activations"},
      {"rounding", "auto", "auto | rtn | gptq", "of weights; auto: gptq up to 6 bits, else rtn"},
      {"clip", "auto", "auto | search | above 0 to 1",
       "what is kept of a weight row's range; auto: search at 4 bits, else 1"},
      {"moment", "float", "float | rounded", "the inputs that gptq rounds weights for"},
      {"group", 0, "0 | 8 to 65536", "weights that share a scale; 0: a row"},
      {"symmetric_weights", false, "true | false", "no zero points for weights"},
  };
}

std::vector<StepConfig> duquant_steps(const std::string& bits_text, JsonFields& options) {
  const Bits bits = parse_bits(bits_text);
  std::vector<StepConfig> steps = input_rewrites(bits, options);
  for (const StepConfig& step : activation_steps(bits.activations, options)) steps.push_back(step);
  steps.push_back(weight_step(bits.weights, options));
  return steps;
}

}  // namespace ptq
