// Choosing where to clip the activations of a sublayer by what it costs its output.
#pragma once

#include <string>
#include <vector>

#include "ptq/model/model.h"

namespace ptq {

// What may be tried at one site.
struct ClipLadder {
  std::string site;
  std::vector<ActivationQuantizer> candidates;  // besides the site's own
  bool descending = false;  // each tighter than the one before: the search may end before the last
};

// Sum of squared differences between the sublayer's output for `inputs` and `outputs`, in float64, divided by
// the sum of squares of outputs - inputs (what it adds to the residual stream). [windows, length, d_model]
double relative_output_error(const Sublayer& sublayer, const Tensor& inputs, const Tensor& outputs);

// Coordinate descent: visits the ladders in the order given and leaves each site with the quantizer for which
// the sublayer's output error is least, all other sites quantized as they are at that moment. The error
// never rises. REQUIRES: the sites have static quantizers. Cost: one forward over `inputs` a candidate.
void search_clips(Sublayer& sublayer, const std::vector<ClipLadder>& ladders, const Tensor& inputs,
                  const Tensor& outputs);

}  // namespace ptq
