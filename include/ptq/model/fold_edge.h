// Where the values of a block may be scaled or turned without changing what it computes.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <vector>

#include "ptq/model/linear.h"
#include "ptq/model/weight.h"

namespace ptq {

// "These weights feed those linears": channel c of the sites is made by row c of every producer (its slice of
// rows), so dividing the producers' row c and multiplying the readers' column c by the same number changes
// nothing. Where several channels are made by one row (heads that share a value head), `row_of` says which.
struct FoldEdge {
  struct Rows {
    Weight* weight = nullptr;
    int64_t first = 0;  // the producer's rows [first, first + channels)
    double offset = 0;  // what the block computes with is the weight plus this: 1 for a gain stored as g - 1
    double power = 1;   // the channel goes with the row's scale to this power: 1/2 where it is squared after
  };
  std::vector<std::string> sites;  // that see the same values: a norm may feed several
  std::vector<Rows> producers;
  // The first one's columns are those that DuQuant's authors look at (q of q, k, v; up of up and gate).
  std::vector<Linear*> readers;
  // [channels] int64: channel c is made by row row_of[c] of the slice; undefined: by row c.
  at::Tensor row_of = at::Tensor();
};

// Divides the edge's channels by s [channels] where they are made and multiplies the columns of the readers
// by it: what is computed stays the same. Tensors that another block shares are replaced, not written into.
// REQUIRES: channels that one row makes have one scale.
void fold_scales(const FoldEdge& edge, const at::Tensor& s);

// The value of one producer as it was before fold_scales(edge, s): the shape of `value`, which the producer
// has.
at::Tensor unfolded(const FoldEdge& edge, const FoldEdge::Rows& producer, const at::Tensor& s,
                    const at::Tensor& value);

// Two sites whose values meet only in inner products over `width` consecutive channels (a query and a key
// head): one orthogonal map of `width` channels, applied to both, changes nothing.
struct ProductPair {
  std::string left, right;  // sites
  int64_t width = 0;
};

}  // namespace ptq
