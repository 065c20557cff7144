// The mathematics of the rewrites: moves that leave what a block computes unchanged.
#pragma once

#include <string>

#include "ptq/calibration/statistics.h"
#include "ptq/model/model.h"

namespace ptq {

// Puts a stage behind a site's transform, and the same map on the columns of every linear that reads it:
// (W T)(x T)^T = W x^T. Statistics of the site, if there are any, follow.
// Throws Error if the stage does not fit the site's channels, or if two rotations of a site differ in block
// (an artifact stores them as one tensor).
void append_op(Sublayer& sublayer, const std::string& site, const TransformOp& stage, Statistics& statistics);

// The site's part of append_op(): checks the stage and puts it behind the site's transform, and leaves
// weights and statistics as they are.
void place_op(Sublayer& sublayer, const std::string& site, const TransformOp& stage);

// SmoothQuant (arXiv 2211.10438, equation 4): s_c = a_c^alpha / w_c^(1 - alpha), with a_c the largest
// |activation| of channel c and w_c the largest |weight| of column c. Both are at least 1e-5, s_c at least
// `floor`. [channels]
Tensor smoothing_scales(const Tensor& activation_abs_max, const Tensor& weight_abs_max, double alpha,
                        double floor = 1e-5);

// Where several channels are made by one row, the largest of their scales for all of them. [channels]
Tensor share_scales(const FoldEdge& edge, const Tensor& s);

// Folds s across the edge and records it at the edge's sites, whose statistics follow. REQUIRES: s =
// share_scales(edge, s).
void smooth_edge(Sublayer& sublayer, const FoldEdge& edge, const Tensor& s, Statistics& statistics);

// The largest power of two, at most `most`, that divides n.
int64_t power_of_two_block(int64_t n, int64_t most = 128);

}  // namespace ptq
