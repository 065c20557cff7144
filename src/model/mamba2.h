// Mamba-2 language models.
#pragma once

#include "model/layout.h"
#include "ptq/model/weight.h"

namespace ptq {

// Throws Error as read_mamba2_config() does.
ModelLayout mamba2_layout(const WeightSource& source);

}  // namespace ptq
