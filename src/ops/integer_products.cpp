#include "ptq/ops/integer_products.h"

#include "ops/code_product.h"
#include "ops/exact_product.h"

namespace ptq {

const std::vector<IntegerProduct>& integer_products() {
  static const std::vector<IntegerProduct> table = {
      {"int8", code_product_supports, prepare_code_product},
      {"float32", exact_product_supports, prepare_exact_product},
  };
  return table;
}

const IntegerProduct* find_integer_product(const WeightScheme& weight, const ActivationScheme& activation) {
  for (const IntegerProduct& row : integer_products()) {
    if (row.supports(weight, activation)) return &row;
  }
  return nullptr;
}

}  // namespace ptq
