// Choosing where to clip the activations of a block by what it costs the block's output.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "ptq/model/model.h"

namespace ptq {

struct ClipCandidate {
  double percentile = 1;  // of |x| this amax is, 0 if it is a fraction of the largest |x|
  double amax = 0;
};

using ClipLadder = std::vector<ClipCandidate>;  // the first is the starting point

// Sum of squared differences between the block's output for `inputs` and `outputs`, in float64, divided by
// the sum of squares of outputs - inputs (what the block adds to the residual stream). [rows, length,
// d_model]
double relative_output_error(const Block& block, const Tensor& inputs, const Tensor& outputs);

// Coordinate descent: visits the sites in the order given and keeps, at each, the candidate of its ladder for
// which the block's output error is least, all other sites quantized as they are at that moment. Sites must
// already have static quantizers. Returns the index chosen for each site. Cost: one forward over `inputs` a
// candidate.
std::map<std::string, size_t> search_clips(Block& block,
                                           const std::vector<std::pair<std::string, ClipLadder>>& ladders,
                                           const Tensor& inputs, const Tensor& outputs);

}  // namespace ptq
