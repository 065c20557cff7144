// What the checkpoints and configurations of Mamba and Mamba-2 have in common.
#pragma once

#include <string>

#include "model/reading.h"

namespace ptq {

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
