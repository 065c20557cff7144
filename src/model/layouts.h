// The functions that make the layouts of architectures: see ArchitectureEntry::layout. Each names the
// tensors, reads what shapes do not tell from the configuration, and refuses what it asks for and is not
// done.
#pragma once

#include "model/layout.h"

namespace ptq {

ModelLayout bamba_layout(const WeightSource& source);
ModelLayout falcon_h1_layout(const WeightSource& source);
ModelLayout falcon_mamba_layout(const WeightSource& source);
ModelLayout gemma2_layout(const WeightSource& source);
ModelLayout gemma3_layout(const WeightSource& source);
ModelLayout gpt_neox_layout(const WeightSource& source);
ModelLayout granite4_layout(const WeightSource& source);
ModelLayout granite_layout(const WeightSource& source);
ModelLayout jamba_layout(const WeightSource& source);
ModelLayout mixtral_layout(const WeightSource& source);
ModelLayout nemotron_h_layout(const WeightSource& source);
ModelLayout olmo2_layout(const WeightSource& source);
ModelLayout olmoe_layout(const WeightSource& source);
ModelLayout opt_layout(const WeightSource& source);
ModelLayout phi3_layout(const WeightSource& source);
ModelLayout qwen2_moe_layout(const WeightSource& source);
ModelLayout qwen3_moe_layout(const WeightSource& source);
ModelLayout stablelm_layout(const WeightSource& source);

}  // namespace ptq
