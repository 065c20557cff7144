// A block of a language model: sublayers one after the other. A Mamba block is one, with a mixer; a Llama
// block is two, attention and a feed-forward.
#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <string>
#include <vector>

#include "ptq/model/sublayer.h"

namespace ptq {

// What a block carries between tokens: one state a branch, in order.
struct BlockState {
  std::vector<PartState> parts;
};

class Block {
 public:
  // `prefix`: names of the block's sites in artifacts begin with it. At least one sublayer.
  Block(std::string prefix, std::vector<Sublayer> sublayers);

  // hidden [batch, length, d_model] -> the same shape. `state` and `observer` may be null. With a state, the
  // tokens continue those seen before.
  Tensor forward(const Tensor& hidden, BlockState* state = nullptr, Observer* observer = nullptr) const;
  // What Sublayer::prepare() does, for each: for whoever runs the block more than once.
  void prepare();
  // What Sublayer::seal() does, for each: for whoever does nothing else, in the least memory.
  void seal(const Compute& compute = {});
  // The state before the first token, for `batch` sequences.
  BlockState initial_state(int64_t batch, CacheFloats floats = CacheFloats::kFloat32) const;

  // "backbone.layers.3.mixer", "model.layers.3".
  const std::string& prefix() const { return prefix_; }
  std::vector<Sublayer>& sublayers() { return sublayers_; }
  const std::vector<Sublayer>& sublayers() const { return sublayers_; }

  // Those of all sublayers, in order.
  std::vector<Site*> sites();
  std::vector<Linear*> linears();
  std::vector<FoldEdge> fold_edges();
  // Every tensor of the block: norms, then the parts' with those of the linears.
  std::vector<Weight*> weights();
  // Throws Error if the block has no such site.
  Site& site(const std::string& name);

  MixingCost mixing_cost(int64_t length) const;

 private:
  std::string prefix_;
  std::vector<Sublayer> sublayers_;
};

}  // namespace ptq
