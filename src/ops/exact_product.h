// The reference of the integer products: their exact integers, held in floats.
#pragma once

#include <memory>

#include "ptq/ops/integer_products.h"

namespace ptq {

// Every linear scheme of weights; activations with one scale, or one a token.
bool exact_product_supports(const WeightScheme& weight, const ActivationScheme& activation);
// Takes 4 bytes a weight.
std::shared_ptr<const PreparedWeight> prepare_exact_product(const QuantizedTensor& weight);

}  // namespace ptq
