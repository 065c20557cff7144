// Number formats of weights: how many bits, and which values share a scale.
#pragma once

#include <cstdint>

namespace ptq {

enum class Granularity {
  kTensor,   // one scale
  kChannel,  // one scale an output row
  kGroup,    // one scale for `group` consecutive inputs of a row; the last group of a row may be shorter
};

// "tensor", "channel", "group": as recipes, artifacts and reports spell it.
const char* granularity_name(Granularity granularity);

// An integer format. The value of a code q is (q - zero) * scale; the zero point is 0 if it is symmetric.
struct WeightScheme {
  int bits = 8;  // 2 to 8
  Granularity granularity = Granularity::kTensor;
  int64_t group = 0;         // kGroup only
  bool half_scales = false;  // scales are rounded to float16 before the codes are computed, and stored so
  bool symmetric = true;     // false: an integer zero point beside every scale

  // Smallest and largest code. Groups, and schemes with a zero point, use all 2^bits codes. Whole rows and
  // tensors below 8 bits keep a symmetric range, as the authors of Quamba do; at 8 bits the code -128 is
  // allowed but never produced by abs-max scales.
  int64_t low() const;
  int64_t high() const { return (int64_t{1} << (bits - 1)) - 1; }
  // Bits a weight costs with its scales and zero points (8 bits each), for a matrix with `in` columns and
  // `out` rows.
  double bits_per_weight(int64_t out, int64_t in) const;

  bool operator==(const WeightScheme&) const = default;
};

}  // namespace ptq
