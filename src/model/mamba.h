// Mamba-1 language models.
#pragma once

#include "model/layout.h"
#include "ptq/model/weight.h"

namespace ptq {

// Throws Error as read_mamba_config() does.
ModelLayout mamba_layout(const WeightSource& source);

}  // namespace ptq
