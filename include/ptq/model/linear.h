// A linear layer in whichever form its weight and input have.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "ptq/model/site.h"
#include "ptq/model/weight.h"
#include "ptq/ops/integer_products.h"

namespace ptq {

// A low-rank term beside a rounded weight: y = x W^T + (x A^T) B^T.
struct LowRank {
  Tensor A;                               // [rank, in] float32: the values as they are stored
  Tensor B;                               // [out, rank]
  at::ScalarType stored = at::kBFloat16;  // dtype on disk; kChar: codes with scales
  Tensor A_scale, B_scale;                // [rank], kChar only: of the rows of A and the columns of B

  int64_t rank() const { return A.size(0); }
  // Bytes on disk.
  int64_t bytes() const;
  // B A, float32 [out, in].
  Tensor product() const { return B.matmul(A); }
};

// The factors rounded to the dtype they will be stored in: kBFloat16, kHalf, kFloat, or kChar for codes of 8
// bits with a scale for each row of A and each column of B. A [rank, in], B [out, rank], of any float dtype.
LowRank make_low_rank(const Tensor& A, const Tensor& B, at::ScalarType stored);

// How products of a model that only runs are computed.
struct Compute {
  // Float inputs of weights in codes are rounded to 8 bits a token for the product, which is one of integers
  // then; low-rank terms are of the floats.
  bool int8_inputs = false;
  // Integer products are made of float32 ones, in the last row of ops' table: slower, and the same bits.
  bool simulated = false;
};

// The least bits of a layer that is never rounded, such as the router of a mixture of experts.
inline constexpr int kNeverRounded = 16;

class Linear {
 public:
  std::string name;            // "backbone.layers.0.mixer.in_proj": the weight's name without ".weight"
  std::string site;            // the Site its input comes from
  Weight weight;               // [out, in]
  std::optional<Weight> bias;  // [out]
  std::optional<LowRank> correction;
  int min_bits = 2;        // the strongest compression the layer bears
  double token_share = 1;  // of the tokens that reach its part, how many it reads: less than 1 for an expert
  // Other runtimes read the weight past the layer, in a fused kernel, so that nothing can be put beside it.
  bool fused_elsewhere = false;

  // y [batch, length, out] = x W^T + bias, a tensor of its own.
  //   x in codes, and a weight in codes: the row of ops' integer products that supports both
  //   else: one float32 product of what x and the weight stand for
  // A correction is computed in float32, on what the codes of the input stand for.
  Tensor operator()(const Activation& x) const;

  // Turns codes of the weight once into what the product with such inputs wants, so that operator() need not
  // at every call; no input scheme: floats. No-op for a weight in floats, or on the meta device. To be called
  // again when the weight has changed: a form that is out of date is not used.
  void prepare(const std::optional<ActivationScheme>& input);
  // prepare(), and then gives up the weight, of which the product holds what it needs: from here on only
  // operator() may be called, on such inputs. No-op on the meta device.
  void seal(const std::optional<ActivationScheme>& input, const Compute& compute = {});
  // Whether Compute::int8_inputs rounds such inputs: they are floats, and the weight's codes have an integer
  // product.
  bool takes_int8(const std::optional<ActivationScheme>& input) const;

 private:
  // What the weight was turned into, for one kind of product.
  struct Prepared {
    const IntegerProduct* row = nullptr;                 // null: of floats
    Tensor codes = {};                                   // of which weight; undefined if that was given up
    std::shared_ptr<const PreparedWeight> integer = {};  // of codes
    std::optional<StoredWeight> floats = {};             // else
    std::optional<StoredWeight> A = {}, B = {};          // the correction, if the linear is sealed
    bool rounds_inputs = false;                          // they are floats, and the product is of codes
  };
  // The kind of product with such inputs.
  const IntegerProduct* row_for(const std::optional<ActivationScheme>& input) const;
  Prepared made_for(const IntegerProduct* row) const;
  // Whether prepared_ is for this row, and for the weight as it is.
  bool is_prepared(const IntegerProduct* row) const;
  Tensor low_rank_term(const Tensor& x) const;

  std::shared_ptr<const Prepared> prepared_;
  bool sealed_ = false;
};

}  // namespace ptq
