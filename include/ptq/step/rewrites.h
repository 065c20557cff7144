// The mathematics of the rewrites.
#pragma once

#include "ptq/model/model.h"

namespace ptq {

// Rotates a site online, and the columns of every linear that reads it: (W H^T)(H x) = W x.
// REQUIRES: the site has no transform yet, and H.size is its number of channels.
void rotate_site(Block& block, const std::string& site, const Hadamard& H);

// SmoothQuant (arXiv 2211.10438, equation 4): s_c = a_c^alpha / w_c^(1 - alpha), with a_c the largest
// |activation| of channel c and w_c the largest |weight| of column c over all readers. Both are at least
// 1e-5. [channels]
Tensor smoothing_scales(const Tensor& activation_abs_max, const Tensor& weight_abs_max, double alpha);

// Divides the rows of the edge's producers by s and multiplies the columns of its readers.
void fold_scales(const FoldEdge& edge, const Tensor& s);

}  // namespace ptq
