// The sorts of QERA golden cases.
#pragma once

#include "checks.h"

namespace ptq::golden {

// Sort q1: MXINT blocks, tails and 16-bit inputs; NF4; integer groups.
void run_qera_formats(const std::filesystem::path& json_path, Checks& checks);

// Sort q2: low-rank factors of one layer, by every variant; with shrinkage; in turns with the rounding.
void run_qera_factors(const std::filesystem::path& json_path, Checks& checks);

// Sort q3: the logits of a model with an adapter as PEFT holds it.
void run_qera_peft(const std::filesystem::path& json_path, Checks& checks);

}  // namespace ptq::golden
