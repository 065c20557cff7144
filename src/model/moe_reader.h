// Reads mixtures of experts that lie one by one below ".experts.".
#pragma once

#include <string>

#include "model/decoder_reader.h"

namespace ptq {

struct ExpertNames {
  std::string gate = "gate_proj", up = "up_proj", down = "down_proj";
};

// The gated experts `prefix` + ".experts.3", chosen by the linear `router`, `chosen` of them for each token;
// `size_key` of the configuration states their width. Throws Error where the configuration says other numbers
// than shapes, or more are chosen than there are.
MoeLayout read_moe(DecoderReader& reader, const std::string& prefix, const std::string& router,
                   const ExpertNames& names, int64_t chosen, const char* size_key);

// The number of experts that the router's shape says, which the configuration must not contradict, and of
// which `chosen` are used.
int64_t read_expert_count(LayoutReader& reader, const std::string& router, int64_t chosen);

}  // namespace ptq
