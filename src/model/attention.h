// Causal attention of grouped heads, through libtorch's fused kernel where that has what is asked for.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <optional>

namespace ptq {

using at::Tensor;

// How scores are made.
struct Scores {
  int64_t window = 0;                // how many keys a query sees, its own included; 0: all before it
  std::optional<double> scale = {};  // none: head_dim^-1/2
  double softcap = 0;                // c: scores become c tanh(s / c); 0: they do not
};

// q [batch, heads, length, head_dim]; k, v [batch, kv_heads, past + length, head_dim], where kv_heads divides
// heads: query head h reads key head h / (heads / kv_heads). Query i sits at position past + i and sees the
// keys up to its own.
// Returns [batch, length, heads, head_dim]. Memory beyond that is a mask of at most 512 queries, and none if
// past is 0 and the window does not bind; with a softcap also the scores of those queries.
Tensor attend(const Tensor& q, const Tensor& k, const Tensor& v, const Scores& scores);

}  // namespace ptq
