// Mamba-1 language models.
#pragma once

#include <memory>

#include "ptq/model/model.h"

namespace ptq {

std::unique_ptr<Model> make_mamba(const WeightSource& source);

}  // namespace ptq
