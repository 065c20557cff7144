// Number formats of weights: how many bits, and which values share a scale.
#pragma once

#include <cstdint>
#include <vector>

namespace ptq {

enum class Granularity {
  kTensor,   // one scale
  kChannel,  // one scale an output row
  kGroup,    // one scale for `group` consecutive inputs of a row; the last group of a row may be shorter
};

// "tensor", "channel", "group": as recipes, artifacts and reports spell it.
const char* granularity_name(Granularity granularity);

// What a code stands for.
enum class NumberFormat {
  kInteger,  // (code - zero) * scale; the zero point is 0 if the scheme is symmetric
  kMxint,    // code * scale, scale a power of two that 32 weights share (Microscaling, arXiv 2310.10537)
  kNf4,      // table[code] * scale: quantiles of a normal distribution, 64 weights a scale (QLoRA, arXiv
             // 2305.14314)
};

inline constexpr int64_t kMxintGroup = 32;
inline constexpr int64_t kNf4Group = 64;

// "integer", "mxint", "nf4".
const char* number_format_name(NumberFormat format);

struct WeightScheme {
  int bits = 8;  // 2 to 8
  Granularity granularity = Granularity::kTensor;
  int64_t group = 0;         // kGroup only
  bool half_scales = false;  // scales are rounded to float16 before the codes are computed, and stored so
  bool symmetric = true;     // false: an integer zero point beside every scale
  NumberFormat format = NumberFormat::kInteger;
  // Groups: the scale is amax / high, or the range over 2^bits - 1, without weight_grid's factor and floor.
  bool plain_scales = false;

  // Codes that a product of integers can use.
  bool is_linear() const { return format != NumberFormat::kNf4; }
  // Codes lie in a stream of `bits`-bit fields; else each has a byte.
  bool is_packed() const { return bits <= 4 || format == NumberFormat::kMxint; }

  // Smallest and largest code. Groups, and schemes with a zero point, use all 2^bits codes. Whole rows and
  // tensors below 8 bits keep a symmetric range, as the authors of Quamba do; at 8 bits the code -128 is
  // allowed but never produced by abs-max scales. MXINT has a sign and a magnitude; NF4's codes are 0 to 15.
  int64_t low() const;
  int64_t high() const;
  // The shape of the scales of a matrix [out, in]: {1}, {out, 1} or {out, ceil(in / group)}.
  std::vector<int64_t> scale_shape(int64_t out, int64_t in) const;
  // Bits a weight costs with its scales (MXINT: exponents of 8 bits) and zero points (8 bits each), for a
  // matrix with `in` columns and `out` rows.
  double bits_per_weight(int64_t out, int64_t in) const;

  bool operator==(const WeightScheme&) const = default;
};

}  // namespace ptq
