// Names of tensors as models are published on the Hugging Face hub, for outputs that other programs load.
#pragma once

#include <string>

namespace ptq {

// `name`, as a model's Weight has it, in the form that Hugging Face's classes expect. Checkpoints of
// state-spaces spell one name otherwise.
std::string published_name(const std::string& name);

}  // namespace ptq
