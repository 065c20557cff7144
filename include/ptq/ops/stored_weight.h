// A weight for products with float activations, in the form in which it is stored.
#pragma once

#include <ATen/ATen.h>

#include "ptq/codec/quantized_tensor.h"

namespace ptq {

namespace kernels {
struct StoredRows;
}

// W [out, in], widened to float32 on the way into a product: at half the bytes or less, one row of
// activations takes as much less time. On other devices than the CPU codes are held as float32.
class StoredWeight {
 public:
  // float32, float16 or bfloat16 [out, in]; the tensor is held, not copied, if its rows are contiguous.
  explicit StoredWeight(const Tensor& numbers);
  // Codes take a byte, the same tensor if its rows are contiguous; those of 4 bits and fewer half a byte, if
  // scales belong to whole rows or to multiples of 32 inputs.
  explicit StoredWeight(const QuantizedTensor& q);

  // x [..., in] float32 times W^T, plus bias [out] if it is defined: [..., out] float32. From kFewRows rows
  // on the bits are those of ops::linear(x, values); below, each row's are its own.
  Tensor product(const Tensor& x, const Tensor& bias = {}) const;
  // The rows `ids`, int64 of any shape: [..., in] float32.
  Tensor rows(const Tensor& ids) const;

  static constexpr int64_t kFewRows = 16;

 private:
  kernels::StoredRows operand() const;
  Tensor widened(int64_t first, int64_t count) const;
  void multiply_few(const Tensor& x, const Tensor& y) const;

  int64_t out_, in_;
  Tensor data_;             // [out, in] numbers or codes, or [out, row bytes] of half bytes
  Tensor table_;            // [16] float32, of codes of half a byte
  Tensor scale_;            // of codes: [1], [out, 1] or [out, groups]
  Tensor zero_;             // the same, int8, or undefined
  int64_t group_ = 1;       // inputs that share a scale
  bool in_floats_ = false;  // data_ is what ops::linear takes
};

}  // namespace ptq
