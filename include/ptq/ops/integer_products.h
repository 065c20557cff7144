// Products of activations in codes with weights in codes: a table, from which each linear takes the row that
// serves it.
#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <vector>

#include "ptq/codec/activation.h"
#include "ptq/codec/quantized_tensor.h"

namespace ptq {

// A weight in the form in which its product wants it.
class PreparedWeight {
 public:
  virtual ~PreparedWeight() = default;
  // x in codes [..., in] times W [out, in] transposed: [..., out] float32, without a bias. Every row of the
  // table gives the same bits: those of int32 sums of (code - zero point) products, each converted to float32
  // and then multiplied by the scales: by their product if the weight has one scale and x one for all tokens,
  // else by the weight's and then by x's. With groups of weights the scaled sums of groups are added in
  // order, in float32.
  virtual Tensor product(const Activation& x) const = 0;
};

struct IntegerProduct {
  const char* name;
  bool (*supports)(const WeightScheme& weight, const ActivationScheme& activation);
  // REQUIRES: supports() the weight's scheme. The result is independent of the weight given. Where the row
  // cannot serve it, by its device or size, this is the reference's. Cost: a few passes over the weight.
  std::shared_ptr<const PreparedWeight> (*prepare)(const QuantizedTensor& weight);
};

// The best first; the last is the reference.
const std::vector<IntegerProduct>& integer_products();

// The first row that supports both; nullptr if there is none, so that the product is one of floats.
const IntegerProduct* find_integer_product(const WeightScheme& weight, const ActivationScheme& activation);

// a [rows, k] times b [n, k], transposed: the exact integers of the product of integer matrices that are held
// in float32, as float64 if they may pass 2^24 and float32 else. |a|, |b| at most `a_bound`, `b_bound`.
Tensor exact_matmul(const Tensor& a, const Tensor& b, int64_t a_bound, int64_t b_bound);

}  // namespace ptq
