// The parts that blocks are made of, each read from a source as its layout says. Throw Error for a tensor
// that is missing or has another shape.
#pragma once

#include <memory>

#include "model/layout.h"
#include "ptq/model/block.h"

namespace ptq {

std::unique_ptr<Part> make_part(const WeightSource& source, const Mamba1Layout& layout);
std::unique_ptr<Part> make_part(const WeightSource& source, const Mamba2Layout& layout);
std::unique_ptr<Part> make_part(const WeightSource& source, const AttentionLayout& layout);
std::unique_ptr<Part> make_part(const WeightSource& source, const DenseLayout& layout);
std::unique_ptr<Part> make_part(const WeightSource& source, const MoeLayout& layout);

Norm read_norm(const WeightSource& source, const NormLayout& layout, int64_t channels);

}  // namespace ptq
