// What a branch of a block computes on its normed input: a mixer (attention, a state-space model) or a
// feed-forward.
#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <string>
#include <vector>

#include "ptq/model/fold_edge.h"
#include "ptq/model/linear.h"
#include "ptq/model/site.h"
#include "ptq/model/weight.h"
#include "ptq/ops/cached_rows.h"

namespace ptq {

// What one part carries between tokens while decoding. The part that made it knows what the tensors are, and
// writes into them: a copy is no second state to go on from.
struct PartState {
  std::vector<Tensor> tensors = {};
  // Of an attention: keys, values, and how many tokens came before the next one.
  CachedRows keys = {}, values = {};
  int64_t past = 0;
  // How many tokens the text will have, those to come included; 0: not known. Where a model reads a text by
  // its length (longrope), this decides.
  int64_t text_length = 0;
};

// What a part does for one sequence besides its linears and what is done to each value alone.
struct MixingCost {
  double operations = 0;     // of floating point, for all tokens of the sequence
  int64_t state_values = 0;  // floats in the state after its last token

  MixingCost& operator+=(const MixingCost& other) {
    operations += other.operations;
    state_values += other.state_values;
    return *this;
  }
};

// A site that sees the part's input as it comes from the norm, and the linears that read it: the norm's gain
// may be folded into them.
struct PartInput {
  std::string site;
  std::vector<Linear*> readers;
};

class Part {
 public:
  virtual ~Part() = default;
  // A copy that shares tensors: rounding one replaces its tensors and leaves the other as it was.
  virtual std::unique_ptr<Part> clone() const = 0;

  // x [batch, length, d_model] -> the same shape, a tensor of its own. With a state, the tokens continue
  // those seen before. `state` and `observer` may be null.
  virtual Tensor forward(const Tensor& x, PartState* state, Observer* observer) const = 0;
  // Makes once what every forward needs: weights will not change from here on.
  virtual void seal() {}
  // The state before the first token, for `batch` sequences; empty for a part that looks at one token at a
  // time.
  virtual PartState initial_state(int64_t batch, CacheFloats floats) const = 0;

  // Empty: the norm before the part is never folded into it, and so not smoothed.
  virtual std::vector<PartInput> inputs() = 0;
  // In the order in which the forward reaches them.
  virtual std::vector<Site*> sites() = 0;
  virtual std::vector<Linear*> linears() = 0;
  // Every tensor of the part, those of the linears included.
  virtual std::vector<Weight*> weights() = 0;
  // Those within the part: where a linear makes channels that reach a site scaled as they were made, so that
  // between them there is nothing but products with what does not depend on them. The edges from the norms
  // before the part are the sublayer's.
  virtual std::vector<FoldEdge> fold_edges() = 0;
  virtual std::vector<ProductPair> product_pairs() { return {}; }
  // Of a mixture: which experts the tokens of `router_input` [..., d_model] go to, bool [tokens, experts].
  // Undefined for other parts.
  virtual Tensor chosen_experts(const Tensor& /*router_input*/) const { return {}; }

  virtual MixingCost mixing_cost(int64_t length) const = 0;
};

}  // namespace ptq
