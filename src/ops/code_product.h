// Integer products by the kernel of codes: half a byte or a byte a weight in memory, sums of 32 bits.
#pragma once

#include <memory>

#include "ptq/ops/integer_products.h"

namespace ptq {

// Every linear scheme of weights, in groups of a multiple of 4 if in groups; activations with one scale, or
// one a token.
bool code_product_supports(const WeightScheme& weight, const ActivationScheme& activation);
// Takes one byte a weight, and 8 or 9 a scale; half a byte a weight of up to 4 bits, unless it is in groups
// that are no multiple of 8. Where the kernel cannot serve, the reference's form: for a
// weight on another device than the CPU, rows so long that their sums may pass 32 bits, and processors for
// which there are plain loops only.
std::shared_ptr<const PreparedWeight> prepare_code_product(const QuantizedTensor& weight);

}  // namespace ptq
