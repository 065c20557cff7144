// Quamba (arXiv 2410.13229): everything in a Mamba block at INT8 with one static scale a tensor and a site.
//
// Two places need care. The input of the scan, u, feeds a recurrence: a scale stretched by a rare huge value
// costs every later token, so u is clipped at a percentile. The output of the scan, y, has outliers in most
// channels: it is rotated by a Hadamard matrix before it is rounded, and out_proj's columns with it. Both are
// switches; without them this is plain static W8A8, with the rotation alone the QuaRot-like baseline.
#include "method/method_steps.h"

namespace ptq {

Json quamba_defaults() {
  return {{"percentile", "auto"}, {"hadamard", true}, {"activations", "static"}, {"observer", "moving"},
          {"clip", "all"},        {"search_rows", 4}, {"weights", "tensor"}};
}

std::vector<StepConfig> quamba_steps(const std::string&, JsonFields& options) {
  const Json percentile = options.at("percentile");
  const bool hadamard = options.boolean("hadamard", true);
  const std::string scales = options.string("activations", "static");
  const std::string weights = options.string("weights", "tensor");
  const std::string observer = options.string("observer", "moving");
  const std::string clip = options.string("clip", "all");
  const int64_t search_rows = options.integer("search_rows", 4);
  std::vector<StepConfig> steps;
  if (hadamard) steps.push_back({"hadamard", {{"site", "ssm.output"}}});
  steps.push_back({"rtn", {{"bits", 8}, {"granularity", weights}, {"tensors", "all"}}});
  Json activations = {{"scales", scales}, {"bits", 8}, {"sites", "all"}};
  if (scales != "dynamic") {
    activations["percentile_site"] = "ssm.x";
    activations["percentile"] = percentile;
    activations["observer"] = observer;
    activations["clip"] = clip;
    activations["search_rows"] = search_rows;
  }
  steps.push_back({"activations", activations});
  return steps;
}

}  // namespace ptq
