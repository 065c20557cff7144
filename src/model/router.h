// Which experts of a mixture read which tokens.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "model/layout.h"
#include "ptq/model/weight.h"

namespace ptq {

// The tokens of one expert.
struct Routed {
  std::vector<int64_t> tokens;  // in order
  std::vector<float> weights;
};

// For each expert its tokens, from the router's logits [tokens, experts] float32. `choice_bias` [experts]
// may be undefined. The k chosen are those of libtorch's topk.
std::vector<Routed> route(const RouterLayout& layout, const Tensor& logits, const Tensor& choice_bias);

}  // namespace ptq
