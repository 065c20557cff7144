// A block of a language model: sublayers one after the other, each of which adds to the hidden states what
// its parts make of them:
//
//   x <- x + r post(sum_b out_b part_b(in_b pre_b(x)))
//
// A Mamba block is one sublayer with a mixer; a Llama block is two, attention and a feed-forward.
#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ptq/model/part.h"

namespace ptq {

// RMS norm (arXiv 1910.07467) with a gain.
struct Norm {
  Weight gain;  // [d_model]
  double eps = 0;

  // x [..., d_model] -> the same shape.
  Tensor operator()(const Tensor& x) const;
};

struct Branch {
  std::unique_ptr<Part> part;
  int norm = 0;  // index of the sublayer's norm that the part reads; -1: the hidden states as they are
  double in_scale = 1, out_scale = 1;
};

struct Sublayer {
  std::vector<Norm> norms;
  std::vector<Branch> branches;
  std::optional<Norm> post;  // of the sum of the branches
  double residual_scale = 1;
};

// What a block carries between tokens: one state a branch, in order.
struct BlockState {
  std::vector<PartState> parts;
};

class Block {
 public:
  // `prefix`: names of the block's sites in artifacts begin with it. At least one sublayer, each with at
  // least one branch.
  Block(std::string prefix, std::vector<Sublayer> sublayers);

  // A copy that shares tensors: rounding one replaces its tensors and leaves the other as it was.
  std::unique_ptr<Block> clone() const;

  // hidden [batch, length, d_model] -> the same shape. With a state, the tokens continue those seen before.
  Tensor forward(const Tensor& hidden, BlockState* state = nullptr) const;
  // The state before the first token, for `batch` sequences.
  BlockState initial_state(int64_t batch) const;

  // "backbone.layers.3.mixer", "model.layers.3".
  const std::string& prefix() const { return prefix_; }
  // In the order in which the forward reaches them.
  std::vector<Site*> sites();
  std::vector<Linear*> linears();
  // Every tensor of the block: norms, then the parts' with those of the linears.
  std::vector<Weight*> weights();
  std::vector<FoldEdge> fold_edges();
  std::vector<ProductPair> product_pairs();

  MixingCost mixing_cost(int64_t length) const;

  // Throws Error if the block has no such site.
  Site& site(const std::string& name);

 private:
  std::vector<Part*> parts() const;

  std::string prefix_;
  std::vector<Sublayer> sublayers_;
};

}  // namespace ptq
