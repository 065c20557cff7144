// A sublayer of a language model's block: it adds to the hidden states what its parts make of them,
//
//   x <- x + r post(sum_b out_b part_b(in_b pre_b(x))),
//
// and in a few old models norms the sum.
// It is the unit in which a model is quantized: what arrives at its sites is known before anything in it is
// rounded, and nothing in it can be folded into another.
#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ptq/model/part.h"

namespace ptq {

// RMS norm (arXiv 1910.07467), or LayerNorm (arXiv 1607.06450), with a gain.
struct Norm {
  Weight gain;  // [channels]
  double eps = 0;
  double offset = 0;                // what is multiplied by is the gain plus this
  bool centred = false;             // LayerNorm: the mean is taken off
  std::optional<Weight> bias = {};  // [channels]

  // x [..., channels] -> the same shape.
  Tensor operator()(const Tensor& x) const;
  std::vector<Weight*> weights();
  // What makes its channels.
  std::vector<FoldEdge::Rows> producers();
};

struct Branch {
  std::unique_ptr<Part> part;
  int norm = 0;  // index of the sublayer's norm that the part reads; -1: the hidden states as they are
  double in_scale = 1, out_scale = 1;
};

// At least one branch. Names of sites are unique in a block.
class Sublayer {
 public:
  std::string prefix;  // the block's: names of the sites in artifacts begin with it
  std::vector<Norm> norms;
  std::vector<Branch> branches;
  std::optional<Norm> post;  // of the sum of the branches
  double residual_scale = 1;
  std::optional<Norm> closing;  // of what the sublayer gives

  // A copy that shares tensors: rounding one replaces its tensors and leaves the other as it was.
  Sublayer clone() const;

  // hidden [batch, length, d_model] -> the same shape. `states`, one a branch, and `observer` may be null.
  // With states, the tokens continue those seen before.
  Tensor forward(const Tensor& hidden, PartState* states = nullptr, Observer* observer = nullptr) const;
  // Makes what many forwards need once: Linear::prepare() for each linear and what its site makes of its
  // input, and the values of other weights.
  void prepare();
  // prepare(), and then gives up the weights of the linears: from here on only forward() may be called.
  void seal(const Compute& compute = {});

  // In the order in which the forward reaches them.
  std::vector<Site*> sites();
  std::vector<Linear*> linears();
  // Every tensor: norms, then the parts' with those of the linears.
  std::vector<Weight*> weights();
  std::vector<Weight*> norm_weights();
  std::vector<Weight*> part_weights();
  std::vector<FoldEdge> fold_edges();
  std::vector<ProductPair> product_pairs();

  MixingCost mixing_cost(int64_t length) const;

  // nullptr if there is no such site.
  Site* find_site(const std::string& name);
  // Throws Error if there is no such site.
  Site& site(const std::string& name);

 private:
  void keep_values();
};

}  // namespace ptq
