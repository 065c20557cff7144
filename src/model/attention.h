// Causal attention of grouped heads, through libtorch's fused kernel.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

namespace ptq {

using at::Tensor;

// q [batch, heads, length, head_dim]; k, v [batch, kv_heads, past + length, head_dim], where kv_heads divides
// heads: query head h reads key head h / (heads / kv_heads). Query i sits at position past + i and sees the
// keys up to its own; if `window` is not 0, only the last `window` of them.
// Returns [batch, length, heads, head_dim]. Memory beyond that is a mask of at most 512 queries, and none if
// past is 0 and the window does not bind.
Tensor attend(const Tensor& q, const Tensor& k, const Tensor& v, int64_t window);

}  // namespace ptq
