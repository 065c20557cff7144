// Blocks of 32 values with one float16 scale d, and a minimum m in some:
//   Q8_0    d, 32 x int8           x = q d
//   Q4_0    d, 16 bytes            x = (u - 8) d
//   Q4_1    d, m, 16 bytes         x = u d + m
//   Q5_0    d, 4 bytes, 16 bytes   x = (u - 16) d; bit j of the four bytes is the fifth bit of code j
//   Q5_1    d, m, 4 bytes, 16      x = u d + m
//   IQ4_NL  d, 16 bytes            x = K[u] d
// The arithmetic of packing is that of quantize_row_*_ref in ggml-quants.c, so that its bytes are too: the
// reciprocal of the float32 scale is multiplied with, and the scale is rounded to float16 only when stored.
#include <algorithm>
#include <cmath>

#include "codec/ggml_blocks.h"
#include "codec/ggml_search.h"

namespace ptq::ggml {
namespace {

constexpr int kHalfBlock = kBlock / 2;

struct Range {
  float low, high;
};

Range range_of(const float* x) {
  const auto [low, high] = std::minmax_element(x, x + kBlock);
  return {*low, *high};
}

// The value of the largest magnitude, with its sign; the first of several.
float extreme_of(const float* x) {
  float most = 0, extreme = 0;
  for (int j = 0; j < kBlock; ++j) {
    if (std::fabs(x[j]) <= most) continue;
    most = std::fabs(x[j]);
    extreme = x[j];
  }
  return extreme;
}

float reciprocal(float d) {
  return d != 0 ? 1 / d : 0;
}

// Codes 0 to `top` of x, where `low` is code 0 - shift. What is outside, as NaN is, becomes an end.
void codes_of(const float* x, float low, float inverse, float shift, int top, uint8_t* codes) {
  for (int j = 0; j < kBlock; ++j) {
    const float code = (x[j] - low) * inverse + shift;
    codes[j] = static_cast<uint8_t>(std::clamp(code >= 0 ? code : 0.0F, 0.0F, static_cast<float>(top)));
  }
}

// The fifth bits of 32 codes.
void place_fifth_bits(const uint8_t* codes, uint8_t* to) {
  std::memset(to, 0, kBlock / 8);
  for (int j = 0; j < kBlock; ++j)
    to[j / 8] = static_cast<uint8_t>(to[j / 8] | (codes[j] >> 4 & 1) << (j % 8));
}

void take_five_bits(const uint8_t* high, const uint8_t* low, uint8_t* codes) {
  take_nibbles(low, codes);
  for (int j = 0; j < kBlock; ++j)
    codes[j] = static_cast<uint8_t>(codes[j] | (high[j / 8] >> (j % 8) & 1) << 4);
}

}  // namespace

void place_nibbles(const uint8_t* codes, uint8_t* to) {
  for (int j = 0; j < kHalfBlock; ++j)
    to[j] = static_cast<uint8_t>((codes[j] & 15) | (codes[j + kHalfBlock] & 15) << 4);
}

void take_nibbles(const uint8_t* from, uint8_t* codes) {
  for (int j = 0; j < kHalfBlock; ++j) {
    codes[j] = from[j] & 15;
    codes[j + kHalfBlock] = from[j] >> 4;
  }
}

void pack_q8_0(const float* x, uint8_t* to) {
  const float d = std::fabs(extreme_of(x)) / 127, inverse = reciprocal(d);
  store_half(d, to);
  for (int j = 0; j < kBlock; ++j)
    to[2 + j] = static_cast<uint8_t>(static_cast<int8_t>(std::round(x[j] * inverse)));
}

void unpack_q8_0(const uint8_t* from, float* x) {
  const float d = load_half(from);
  for (int j = 0; j < kBlock; ++j) x[j] = static_cast<float>(static_cast<int8_t>(from[2 + j])) * d;
}

void pack_q4_0(const float* x, uint8_t* to) {
  uint8_t codes[kBlock];
  const float d = extreme_of(x) / -8;
  codes_of(x, 0, reciprocal(d), 8.5F, 15, codes);
  store_half(d, to);
  place_nibbles(codes, to + 2);
}

void unpack_q4_0(const uint8_t* from, float* x) {
  uint8_t codes[kBlock];
  take_nibbles(from + 2, codes);
  const float d = load_half(from);
  for (int j = 0; j < kBlock; ++j) x[j] = static_cast<float>(codes[j] - 8) * d;
}

void pack_q4_1(const float* x, uint8_t* to) {
  uint8_t codes[kBlock];
  const Range range = range_of(x);
  const float d = (range.high - range.low) / 15;
  codes_of(x, range.low, reciprocal(d), 0.5F, 15, codes);
  store_half(d, to);
  store_half(range.low, to + 2);
  place_nibbles(codes, to + 4);
}

void unpack_q4_1(const uint8_t* from, float* x) {
  uint8_t codes[kBlock];
  take_nibbles(from + 4, codes);
  const float d = load_half(from), m = load_half(from + 2);
  for (int j = 0; j < kBlock; ++j) x[j] = static_cast<float>(codes[j]) * d + m;
}

void pack_q5_0(const float* x, uint8_t* to) {
  uint8_t codes[kBlock];
  const float d = extreme_of(x) / -16;
  codes_of(x, 0, reciprocal(d), 16.5F, 31, codes);
  store_half(d, to);
  place_fifth_bits(codes, to + 2);
  place_nibbles(codes, to + 6);
}

void unpack_q5_0(const uint8_t* from, float* x) {
  uint8_t codes[kBlock];
  take_five_bits(from + 2, from + 6, codes);
  const float d = load_half(from);
  for (int j = 0; j < kBlock; ++j) x[j] = static_cast<float>(codes[j] - 16) * d;
}

void pack_q5_1(const float* x, uint8_t* to) {
  uint8_t codes[kBlock];
  const Range range = range_of(x);
  const float d = (range.high - range.low) / 31;
  codes_of(x, range.low, reciprocal(d), 0.5F, 31, codes);
  store_half(d, to);
  store_half(range.low, to + 2);
  place_fifth_bits(codes, to + 4);
  place_nibbles(codes, to + 8);
}

void unpack_q5_1(const uint8_t* from, float* x) {
  uint8_t codes[kBlock];
  take_five_bits(from + 4, from + 8, codes);
  const float d = load_half(from), m = load_half(from + 2);
  for (int j = 0; j < kBlock; ++j) x[j] = static_cast<float>(codes[j]) * d + m;
}

void pack_iq4_nl(const float* x, uint8_t* to) {
  uint8_t codes[kBlock];
  store_half(search_table_scale(x, codes), to);
  place_nibbles(codes, to + 2);
}

void unpack_iq4_nl(const uint8_t* from, float* x) {
  uint8_t codes[kBlock];
  take_nibbles(from + 2, codes);
  const float d = load_half(from);
  for (int j = 0; j < kBlock; ++j) x[j] = kIq4Values[codes[j]] * d;
}

}  // namespace ptq::ggml
