// Llama-like transformers.
#pragma once

#include "model/layout.h"
#include "ptq/model/weight.h"

namespace ptq {

// Throws Error as read_llama_config() does.
ModelLayout llama_layout(const WeightSource& source);

}  // namespace ptq
