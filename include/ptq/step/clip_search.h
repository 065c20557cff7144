// Choosing where to clip the activations of a block by what it costs the block's output.
#pragma once

#include <string>
#include <vector>

#include "ptq/model/model.h"

namespace ptq {

// What may be tried at one site.
struct ClipLadder {
  std::string site;
  std::vector<double> amax;  // the largest |x| the scale covers; the first is the starting point
  bool descending = false;   // each tighter than the one before: the search may end before the last
};

// Sum of squared differences between the block's output for `inputs` and `outputs`, in float64, divided by
// the sum of squares of outputs - inputs (what the block adds to the residual stream). [rows, length,
// d_model]
double relative_output_error(const Block& block, const Tensor& inputs, const Tensor& outputs);

// Coordinate descent: visits the ladders in the order given and leaves each site with the static scale for
// which the block's output error is least, all other sites quantized as they are at that moment. The error
// never rises. REQUIRES: the sites have static quantizers. Cost: one forward over `inputs` a candidate.
void search_clips(Block& block, const std::vector<ClipLadder>& ladders, const Tensor& inputs,
                  const Tensor& outputs);

}  // namespace ptq
