// Rotary position embedding (RoFormer, arXiv 2104.09864) and the ways to stretch it over longer texts.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ptq/base/json.h"

namespace ptq {

using at::Tensor;

// Cosines and sines for some consecutive positions, [length, 1, rotated / 2].
struct Turn {
  Tensor cos, sin;
  int64_t head_dim = 0;  // channels of a head, of which the first `rotated` are turned
  // x [batch, length, heads * head_dim] -> the same shape: channel i of a head and channel i + rotated / 2
  // are turned as a pair.
  Tensor operator()(const Tensor& x) const;

 private:
  Tensor of_one(const Tensor& x) const;
};

struct Rope {
  Tensor frequencies;  // [rotated / 2] float32, radians a position
  double scale = 1;    // of cosines and sines
  int64_t head_dim = 0;
  // longrope: those of texts of more than `short_limit` tokens; undefined: all texts have the same.
  Tensor long_frequencies = {};
  int64_t short_limit = 0;

  // For the positions [first, first + length) of a text of `text_length` tokens, 0 if that is not known.
  // float32, as transformers computes it. Throws Error where a text that was begun as a short one becomes
  // long.
  Turn at(int64_t first, int64_t length, int64_t text_length = 0) const;
  void move_to(at::Device device);

 private:
  const Tensor& frequencies_of(int64_t first, int64_t length, int64_t text_length) const;
  Turn at_one(const Tensor& of_pairs, int64_t position) const;
};

// What the configuration asks for, under transformers 5's key `rope_parameters` or the older `rope_theta` and
// `rope_scaling`, which wins where both are; types `default`, `linear`, `llama3`, `yarn` and `longrope`.
// `partial`: which part of a head is rotated where the configuration does not say; none: of an architecture
// that rotates whole heads. Throws Error, naming it, for another type, an object for each layer type, or a
// number with which it cannot be computed. Fields that the type does not have are ignored, as in
// transformers, and named in `warnings`, and so is a `rope_parameters` that loses.
Rope read_rope(const Json& config, int64_t head_dim, int64_t context_limit,
               std::vector<std::string>& warnings, std::optional<double> partial = {});

// The keys of a configuration that read_rope() reads.
inline constexpr const char* kRopeKeys[] = {"rope_parameters", "rope_scaling", "rope_theta",
                                            "partial_rotary_factor", "original_max_position_embeddings"};

}  // namespace ptq
