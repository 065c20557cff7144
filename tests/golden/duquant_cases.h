// The sorts of DuQuant golden cases.
#pragma once

#include "checks.h"

namespace ptq::golden {

// Sort d1: Helmert matrices, zigzag permutations, greedy rotations, rounding with a zero point. What the
// program has no function for is printed as skipped.
void run_duquant_units(const std::filesystem::path& json_path, Checks& checks);

// Sort d2: the smoothing of one layer with grouped-query attention, at several alphas.
void run_smoothing_case(const std::filesystem::path& json_path, Checks& checks);

// Sorts d3 and d4: a small Llama, from its weights to its quantized logits.
void run_llama_case(const std::filesystem::path& json_path, Checks& checks);

}  // namespace ptq::golden
