// Names of tensors as architectures are published with them, from what wrappers and training frameworks made
// of them.
//
// A model's layers are called STEM "layers.N.": "model.layers.0..." or "backbone.layers.0...". Wrappers put
// components before the stem ("module.model.layers.0...") or between its parts
// ("model.layers.0._fsdp_wrapped_module..."), base models have none ("layers.0..."), and the text part of a
// multimodal model has another ("language_model.model.layers.0..."). All of these become the published form,
// as far as the names tell it without doubt; what is left stays for the architecture to judge.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ptq/checkpoint/checkpoint.h"

namespace ptq {

// Renames the tensors, which keep their order. What it did goes to `notes`. With `in_training_checkpoint` the
// model is one attribute of several, and names that lie beside it (a loss, a metric) become "": they are to
// be dropped.
void publish_names(std::vector<TensorInfo>& tensors, bool in_training_checkpoint,
                   std::vector<std::string>& notes);

// A model whose embedding and head are one tensor may be stored with the head's name alone, as
// safetensors.torch.save_model() does: unless `config` says that they are not tied, the head is then called
// by the embedding's name. What it did goes to `notes`.
void publish_tied_embedding(std::vector<TensorInfo>& tensors, const Json& config,
                            std::vector<std::string>& notes);

// Whether a model without the tensor `name` is whole: buffers that are computed, and the head, which may be
// tied.
bool may_be_absent(std::string_view name);

// Whether the tensor [experts, out, in] holds the matrices of all experts of a layer, as Granite 4 stores
// them.
bool holds_experts(const TensorInfo& tensor);

// The name of one of them: "...input_linear.3.weight" of "...input_linear.weight".
std::string expert_name(const std::string& name, int64_t expert);

}  // namespace ptq
