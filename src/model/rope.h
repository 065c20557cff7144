// Rotary position embedding (RoFormer, arXiv 2104.09864) and the ways to stretch it over longer texts.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <vector>

#include "ptq/base/json.h"

namespace ptq {

using at::Tensor;

// Cosines and sines for some consecutive positions, [length, 1, head_dim / 2].
struct Turn {
  Tensor cos, sin;
  // x [batch, length, heads * head_dim] -> the same shape: channel i of a head and channel i + head_dim / 2
  // are turned as a pair.
  Tensor operator()(const Tensor& x) const;

 private:
  Tensor of_one(const Tensor& x) const;
};

struct Rope {
  Tensor frequencies;  // [head_dim / 2] float32, radians a position
  double scale = 1;    // of cosines and sines

  // For the positions [first, first + length). float32, as transformers computes it.
  Turn at(int64_t first, int64_t length) const;

 private:
  Turn at_one(int64_t position) const;
};

// What the configuration asks for, under transformers 5's key `rope_parameters` or the older `rope_theta` and
// `rope_scaling`, which wins where both are; types `default`, `linear`, `llama3` and `yarn`. Throws Error,
// naming it, for another type, an object for each layer type, or a number with which it cannot be computed.
// Fields that the type does not have are ignored, as in transformers, and named in `warnings`, and so is a
// `rope_parameters` that loses. REQUIRES: head_dim is even.
Rope read_rope(const Json& config, int64_t head_dim, int64_t context_limit,
               std::vector<std::string>& warnings);

}  // namespace ptq
