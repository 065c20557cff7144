// Rotary embeddings in a GGUF: keys, and for llama3's the tensor of factors by which frequencies are divided.
#pragma once

#include <string>

#include "export/gguf/file.h"
#include "export/gguf/writer.h"
#include "ptq/base/json.h"

namespace ptq {

inline constexpr const char* kRopeFactors = "rope_freqs.weight";

// Adds "PREFIXrope.*". Throws Error for a type that they cannot say. `config` is whole.
void add_rope(const std::string& prefix, const Json& config, GgufMetadata& metadata);
// The tensor kRopeFactors, [head_dim / 2]; undefined if the rope type needs none.
Tensor rope_factors(const Json& config);

// Whether a key, without its prefix, is one of those read here.
bool is_rope_key(const std::string& key);
// Adds "rope_theta" and "rope_scaling" to a configuration. Throws Error for a type that is not known. Of
// factors there is nothing in the keys: see read_rope_factors().
void read_rope_keys(const std::string& architecture, const GgufFile& file, Json& config,
                    const std::string& where);
// Finds the rope parameters of llama3 that make these factors, and adds them. Throws Error if none do.
void read_rope_factors(const Tensor& factors, Json& config, const std::string& where);

}  // namespace ptq
