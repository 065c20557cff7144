// What the checkpoints and configurations of Mamba and Mamba-2 have in common.
#pragma once

#include <string>

#include "model/layout.h"
#include "model/reading.h"

namespace ptq {

// The final norm, and so many blocks: each is a mixer, like `mixer` but for its prefix, behind an RMS norm.
template <typename Mixer>
void add_mixers(ModelLayout& model, int64_t layers, double eps, Mixer mixer) {
  model.final_norm = NormLayout{"backbone.norm_f.weight", eps};
  for (int64_t i = 0; i < layers; ++i) {
    const std::string layer = "backbone.layers." + std::to_string(i);
    mixer.prefix = layer + ".mixer";
    model.blocks.push_back({mixer.prefix, {pre_normed({layer + ".norm.weight", eps}, mixer)}});
  }
}

// The sizes that the tensors below `prefix` tell of a Mamba-1 mixer; the rest is as it is by default.
Mamba1Layout read_mamba1_sizes(const WeightSource& source, const std::string& prefix, int64_t d_model);

// The name of the embedding, which Hugging Face and state-spaces spell differently. Throws Error if there is
// none.
std::string mamba_embedding(const WeightSource& source);

// vocab_size, against the embedding's rows, of which there may be more up to a multiple: the one that
// pad_vocab_size_multiple says, or else 8 if `padded` (state-spaces' code) and 1 if not. Throws Error with
// both numbers.
void check_mamba_vocabulary(JsonFields& fields, bool padded, int64_t rows);

// expand, against d_inner. Throws Error with both numbers.
void check_mamba_expand(JsonFields& fields, int64_t d_model, int64_t d_inner);

// layer_norm_epsilon, or `fallback`. Throws Error unless it lies between 0 and 1.
double read_mamba_eps(JsonFields& fields, double fallback);

// Throws Error if rms_norm is false, which asks state-spaces' code for LayerNorm.
void expect_rms_norm(JsonFields& fields);

// A configuration in Hugging Face's form, with the embedding's rows for its vocab_size.
Json with_true_vocabulary(Json config, int64_t rows);

}  // namespace ptq
