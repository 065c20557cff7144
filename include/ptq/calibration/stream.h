// Hidden states of the calibration tokens, carried from block to block.
#pragma once

#include <ATen/ATen.h>

#include <functional>

#include "ptq/model/model.h"

namespace ptq {

// Rows that go through a block at once: about this many tokens, which keeps a batch's activations in cache.
inline constexpr int64_t kTokensPerBatch = 2048;

// Calls body(begin, end) for consecutive ranges of rows. Throws Error (interrupted) between batches after a
// SIGINT.
void for_each_batch(int64_t rows, int64_t length, const std::function<void(int64_t, int64_t)>& body);

// The block's output for hidden [rows, length, d_model], batch by batch; the same shape.
Tensor run_block(const Block& block, const Tensor& hidden);
// The same, in place: hidden becomes the block's output. Throws Error, naming the block and the first site,
// if an output is NaN or infinite.
void advance(const Block& block, Tensor& hidden);

// ids [rows, length] -> the hidden states before the first block.
Tensor embed_rows(const Model& model, const Tensor& ids);

}  // namespace ptq
