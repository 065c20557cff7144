// Which token comes next: draws from logits.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

namespace ptq {

using at::Tensor;

// One token a row from softmax(logits / temperature), the largest logit if temperature is 0: logits [batch,
// vocab] -> ids [batch, 1]. The draw depends only on (seed, row, position), not on threads or batch size.
Tensor sample(const Tensor& logits, double temperature, uint64_t seed, int64_t position);

// What is done to logits before one is drawn, in this order, as transformers does.
struct SamplingOptions {
  // Above 0. Logits of tokens that the text has are divided by it, negative ones multiplied.
  double repetition_penalty = 1;
  double temperature = 0;  // 0: the largest logit, and what follows makes no difference
  int64_t top_k = 0;       // keeps the largest, and those equal to the last of them; 0: all
  double top_p = 1;        // above 0; keeps the likeliest until their probabilities sum to it
  double min_p = 0;        // keeps those at least so likely, as a share of the likeliest
  uint64_t seed = 0;
};

// logits [vocab] -> the logits that are drawn from, -infinity where a token is left out; `seen` are the ids
// of the text so far. REQUIRES: temperature > 0.
Tensor filtered_logits(const Tensor& logits, at::IntArrayRef seen, const SamplingOptions& options);

// The next token of one text, from logits [vocab]. The draw depends only on (seed, row, position): it is that
// of row `row` of sample().
int64_t sample_one(const Tensor& logits, at::IntArrayRef seen, const SamplingOptions& options, int64_t row,
                   int64_t position);

}  // namespace ptq
