// What the bytes of a correction would buy if they were spent on the weights' format.
#pragma once

#include <optional>
#include <string>

#include "ptq/codec/quantized_tensor.h"

namespace ptq {

struct RivalFormat {
  std::string name;  // "int4 in groups of 32"
  double bits_per_weight = 0;
  double energy = 0;  // of the output error, see output_energy
};

// "mxint4 in groups of 32", "int8 per channel", "nf4 in groups of 64".
std::string format_name(const WeightScheme& scheme);

// The best of: the base's format in the smallest groups that cost at most `bits` a weight, and the base's
// with as many more bits; W rounded to nearest. None if no other format fits.
//   W [out, in]; R [in, in] float32, the second moment of the inputs
std::optional<RivalFormat> best_rival(const Tensor& W, const WeightScheme& base, double bits,
                                      const Tensor& R);

}  // namespace ptq
