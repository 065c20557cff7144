// Llama-like transformers: LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM and Qwen3ForCausalLM.
#pragma once

#include <memory>

#include "ptq/model/model.h"

namespace ptq {

// `source` must outlive the model.
std::unique_ptr<Model> make_llama(const WeightSource& source);

}  // namespace ptq
