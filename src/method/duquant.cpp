// DuQuant (arXiv 2406.01721): 4-bit weights and activations for transformers.
//
// Outliers of activations are first moved into the weights (smoothing), then spread inside blocks (rotation),
// dealt out over blocks (zigzag permutation) and spread again (second rotation). Then both sides are rounded
// to nearest, activations per token, weights per output channel, both with a zero point. Queries, keys and
// values are rounded too, queries and keys after a Hadamard rotation.
//
// The default differs from the paper where it measured better: Hadamard matrices for the searched rotations,
// which are as good and need no search, and the clip of each weight row by its output error for the fixed
// 0.8. `rotation=greedy clip=0.8` is the paper.
#include "method/bits.h"
#include "method/method_steps.h"

namespace ptq {
namespace {

Json weight_options(int bits, JsonFields& options) {
  const int64_t group = options.integer("group", 0);
  Json step = {{"bits", bits}, {"symmetric", options.boolean("symmetric_weights", false)}};
  step["granularity"] = group > 0 ? "group" : "channel";
  if (group > 0) step["group"] = group;
  // From 6 bits on there is room for the whole range, and a clip only hurts.
  const Json clip = options.at("clip");
  step["clip"] = clip == "auto" ? (bits <= 4 ? Json("search") : Json(1)) : clip;
  return step;
}

Json activation_options(int bits, bool symmetric, double clip, const Json& sites) {
  return {{"scales", "dynamic"},
          {"bits", bits},
          {"symmetric", symmetric},
          {"clip_factor", clip},
          {"sites", sites}};
}

}  // namespace

Json duquant_defaults() {
  return {{"smooth", true},
          {"alpha", 0.6},
          {"rotation", "hadamard"},
          {"permute", true},
          {"second_rotation", true},
          {"block", "auto"},
          {"steps", 256},
          {"peak", "magnitude"},
          {"signs", "none"},
          {"seed", 0},
          {"qk_hadamard", true},
          {"attention", true},
          {"clip", "auto"},
          {"activation_clip", "auto"},
          {"group", 0},
          {"symmetric_weights", false},
          {"symmetric_activations", false}};
}

std::vector<StepConfig> duquant_steps(const std::string& bits_text, JsonFields& options) {
  const Bits bits = parse_bits(bits_text);
  const std::string rotation = options.string("rotation", "hadamard");
  const bool second = options.boolean("second_rotation", true);
  const bool permute = options.boolean("permute", true);
  const bool smooth = options.boolean("smooth", true);
  const double alpha = options.number("alpha", 0.6);
  const bool qk_hadamard = options.boolean("qk_hadamard", true);
  const bool attention = options.boolean("attention", true);
  const bool symmetric = options.boolean("symmetric_activations", false);
  const Json activation_clip = options.at("activation_clip");
  const Json block = options.at("block");
  Json rotate = {{"kind", rotation},
                 {"block", block},
                 {"steps", options.integer("steps", 256)},
                 {"peak", options.string("peak", "magnitude")},
                 {"seed", options.integer("seed", 0)}};
  const std::string signs = options.string("signs", "none");
  const Json weights = weight_options(bits.weights, options);

  std::vector<StepConfig> steps;
  if (smooth) steps.push_back({"smooth", {{"alpha", alpha}, {"floor", 1e-2}, {"columns", "first"}}});
  if (rotation != "none") {
    rotate["signs"] = signs;
    steps.push_back({"rotate", rotate});
  }
  if (permute) steps.push_back({"zigzag", {{"block", block}}});
  if (rotation != "none" && second) {
    rotate["signs"] = "none";
    rotate["seed"] = options.integer("seed", 0) + 1;
    steps.push_back({"rotate", rotate});
  }
  if (bits.activations < 16) {
    if (qk_hadamard && attention) steps.push_back({"qk_hadamard", Json::object()});
    const double factor = activation_clip != "auto" ? activation_clip.get<double>()
                          : bits.activations <= 4   ? 0.9
                                                    : 1.0;
    steps.push_back(
        {"activations", activation_options(bits.activations, symmetric, factor, "linear_inputs")});
    if (attention) {
      steps.push_back({"activations", activation_options(bits.activations, symmetric, factor,
                                                         Json::array({"attn.q", "attn.k"}))});
      steps.push_back({"activations", activation_options(bits.activations, symmetric, 1, "attn.v")});
    }
  }
  const std::string rounding = options.string("rounding", "rtn");
  const double compensation = options.number("compensation", 0);
  const std::string moment = options.string("moment", "rounded");
  if (compensation > 0 && bits.activations < 16) steps.push_back({"compensate", {{"damping", compensation}}});
  Json rounded = weights;
  if (rounding == "gptq") rounded["moment"] = moment;
  steps.push_back({rounding, rounded});
  return steps;
}

}  // namespace ptq
