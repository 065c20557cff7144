// The clip of each output channel by what it costs in the layer's output.
#pragma once

#include <ATen/ATen.h>

#include "ptq/codec/quantized_tensor.h"

namespace ptq {

// For each row of W [out, in] (each group of a row, if the scheme has groups) the clip factor of 1.0, 0.95
// ... 0.6 for which the error e of rounding the row to nearest makes e M e^T least. M [in, in] is the second
// moment of what the layer reads, as it arrives there: rounded if activations are. For a group only its own
// diagonal block of M counts. Of equal ones the largest factor. [out, 1] or [out, groups]; undefined for one
// scale a tensor. Cost: nine products of W's size with little more than half of M.
Tensor choose_weight_clips(const Tensor& W, const Tensor& M, const WeightScheme& scheme);

// The mean of x^T x over the rows of x [tokens, channels]. [channels, channels] float32
Tensor second_moment(const Tensor& x);

}  // namespace ptq
