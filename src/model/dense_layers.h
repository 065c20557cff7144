// The linears of a feed-forward: down(f(gate(x)) * up(x)) (arXiv 2002.05202), or down(f(up(x))).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "model/layout.h"
#include "ptq/model/block.h"

namespace ptq {

class DenseLayers {
 public:
  // `input` and `inner` name the sites that they read. Throws Error for a tensor that is missing or has
  // another shape.
  DenseLayers(const WeightSource& source, const DenseLayout& layout, const std::string& input,
              const std::string& inner);

  // x [batch, length, d] -> what down reads, [batch, length, F].
  Tensor inner(const Activation& x) const;
  // [batch, length, F] -> [batch, length, d].
  Tensor outer(const Activation& inner) const { return down_(inner); }

  // Those of x, up first.
  std::vector<Linear*> readers();
  std::vector<Linear*> linears();
  Linear& down() { return down_; }
  // Of the channels that down reads: up makes them, where it is multiplied by the gate, or where f lets a
  // scale pass; none else.
  std::optional<FoldEdge> inner_edge();

 private:
  DenseLayout layout_;
  std::optional<Linear> gate_;  // [F, d]
  Linear up_;                   // [F, d]; [2F, d] if it has the gate's rows too
  Linear down_;                 // [d, F]
};

}  // namespace ptq
