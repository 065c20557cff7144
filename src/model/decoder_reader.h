// Reads what Llama's kin have in common: names, RMS norms, attention with projections that lie apart, a gated
// feed-forward.
#pragma once

#include <string>

#include "model/layout_reader.h"

namespace ptq {

struct DecoderReader : LayoutReader {
  // `default_eps` and `context_limit`: where the configuration does not state them. `final_norm` is its name.
  DecoderReader(const WeightSource& source, const char* name, double default_eps, int64_t context_limit,
                bool tied = false, const std::string& final_norm = "model.norm");

  NormLayout norm(const std::string& name) const { return {name + ".weight", norm_eps}; }
  // Of the tensors below `prefix`, which any layer with attention may have; `biases` of all its linears.
  // `rotates`: whether positions are.
  AttentionLayout attention(const std::string& prefix, bool biases, bool rotates = true);
  // The same for the first layer, with the biases that `attention_bias` says.
  AttentionLayout attention();
  // Of the tensors below `prefix`, with the biases that `mlp_bias` says; `size_key` states its width.
  DenseLayout feed_forward(const std::string& prefix, const char* size_key = "intermediate_size");
  DenseLayout feed_forward() { return feed_forward(layer(0) + ".mlp"); }

  double norm_eps = 0;
  Nonlinearity f = Nonlinearity::kSilu;
};

}  // namespace ptq
