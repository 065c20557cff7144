// What is computed with rows as they are stored, as plain loops.
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/tables.h"

namespace ptq::kernels {
namespace {

// IEEE half precision: the exponent is 15 too large, and 0 stands for numbers without a leading 1.
float from_half(uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  float value = std::ldexp(static_cast<float>(exponent == 0 ? fraction : fraction + 1024),
                           (exponent == 0 ? 1 : exponent) - 25);
  if (exponent == 31)
    value = fraction == 0 ? std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN();
  return (bits & 0x8000) != 0 ? -value : value;
}

float from_bfloat(uint16_t bits) {
  const uint32_t wide = uint32_t{bits} << 16;
  float value = 0;
  std::memcpy(&value, &wide, sizeof(value));
  return value;
}

float raw_value(const StoredRows& w, const uint8_t* row, int64_t k) {
  if (w.stored == Stored::kI8) return static_cast<float>(static_cast<int8_t>(row[k]));
  if (w.stored == Stored::kU4) {
    const int64_t i = k % kU4Columns, half = kU4Columns / 2;
    return w.table[row[k / kU4Columns * half + i % half] >> (i / half * 4) & 15];
  }
  uint16_t bits = 0;
  std::memcpy(&bits, row + 2 * k, sizeof(bits));
  return w.stored == Stored::kF16 ? from_half(bits) : from_bfloat(bits);
}

float value_of(const StoredRows& w, int64_t row, int64_t k) {
  const int64_t groups = (w.columns + w.group - 1) / w.group;
  const int64_t at = w.one_scale ? 0 : row * groups + k / w.group;
  const float zero = w.zero != nullptr ? static_cast<float>(w.zero[at]) : 0.0F;
  const float scale = w.scale != nullptr ? w.scale[at] : 1.0F;
  return (raw_value(w, static_cast<const uint8_t*>(w.data) + row * w.row_bytes, k) - zero) * scale;
}

}  // namespace

template <>
void run<Isa::kPlain>(const WidenRows& s) {
  for (int64_t i = 0; i < s.rows; ++i) {
    for (int64_t k = 0; k < s.w.columns; ++k) s.y[i * s.y_stride + k] = value_of(s.w, s.first + i, k);
  }
}

template <>
void run<Isa::kPlain>(const StoredProduct& s) {
  for (int64_t r = 0; r < s.rows; ++r) {
    for (int64_t c = 0; c < s.columns; ++c) {
      float sum = 0;
      for (int64_t k = 0; k < s.w.columns; ++k)
        sum += s.x[r * s.x_stride + k] * value_of(s.w, s.first + c, k);
      s.y[r * s.y_stride + c] = sum;
    }
  }
}

template <>
void run<Isa::kPlain>(const WeightedRows& s) {
  for (int64_t r = 0; r < s.rows; ++r) {
    for (int64_t k = 0; k < s.w.columns; ++k) {
      float sum = 0;
      for (int64_t c = 0; c < s.count; ++c) sum += s.x[r * s.x_stride + c] * value_of(s.w, s.first + c, k);
      s.y[r * s.y_stride + k] = sum;
    }
  }
}

template <>
void run<Isa::kPlain>(const Softmax& s) {
  for (int64_t r = 0; r < s.rows; ++r) {
    float* x = s.x + r * s.x_stride;
    float largest = x[0], sum = 0;
    for (int64_t c = 1; c < s.columns; ++c) largest = x[c] > largest ? x[c] : largest;
    for (int64_t c = 0; c < s.columns; ++c) {
      x[c] = std::exp(s.scale * (x[c] - largest));
      sum += x[c];
    }
    for (int64_t c = 0; c < s.columns; ++c) x[c] /= sum;
  }
}

}  // namespace ptq::kernels
