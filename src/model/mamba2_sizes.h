// What a Mamba-2 mixer is, from its tensors and a configuration: for every architecture that has such mixers.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/layout.h"
#include "model/reading.h"

namespace ptq {

// How an architecture's configurations spell what they say of its mixers. Of several words for a size each
// that is there is looked at, for they differ by the age of the configuration. Words that an architecture
// lacks are left empty.
struct Mamba2Words {
  std::vector<const char*> heads, head_dim, state, groups, conv;  // H, P, N, G, W
  std::vector<const char*> inner = {};                            // E
  // What the architecture's class takes where a configuration says nothing. G and N are known from shapes
  // only as a product, and one of them, or both, must be said or have a default.
  std::optional<int64_t> default_state = {}, default_groups = {};
  const char* in_bias = nullptr;    // of in_proj
  const char* out_bias = nullptr;   // of out_proj
  const char* conv_bias = nullptr;  // absent means that there is one
  const char* limits = nullptr;     // of dt: two numbers, the second maybe infinite; absent means none
  // Biases of which the configuration says nothing are those that are stored: for one that names no class.
  bool stored_biases = false;
};

// All of the layout of the mixer at `prefix` but its norm, multipliers and D_by_channel, which are left as
// they are by default. Sizes come from shapes. Throws Error if shapes do not fit together, if the
// configuration states another number, or if it does not say what shapes do not tell.
Mamba2Layout read_mamba2_sizes(const WeightSource& source, const std::string& prefix, int64_t d_model,
                               JsonFields& fields, const Mamba2Words& words);

}  // namespace ptq
