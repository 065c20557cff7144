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

// The codes of a block, of 4 bits or 5: the fifth bits of all come first.
template <int bits>
void place_codes(const uint8_t* codes, uint8_t* to) {
  if constexpr (bits == 5) {
    std::memset(to, 0, kBlock / 8);
    for (int j = 0; j < kBlock; ++j)
      to[j / 8] = static_cast<uint8_t>(to[j / 8] | (codes[j] >> 4 & 1) << (j % 8));
    to += kBlock / 8;
  }
  place_nibbles(codes, to);
}

template <int bits>
void take_codes(const uint8_t* from, uint8_t* codes) {
  if constexpr (bits == 4) return take_nibbles(from, codes);
  take_nibbles(from + kBlock / 8, codes);
  for (int j = 0; j < kBlock; ++j)
    codes[j] = static_cast<uint8_t>(codes[j] | (from[j / 8] >> (j % 8) & 1) << 4);
}

// Q4_0 and Q5_0: code 2^(bits - 1) is 0.
template <int bits>
void pack_symmetric(const float* x, uint8_t* to) {
  constexpr int kZero = 1 << (bits - 1);
  uint8_t codes[kBlock];
  const float d = extreme_of(x) / -kZero;
  codes_of(x, 0, reciprocal(d), kZero + 0.5F, 2 * kZero - 1, codes);
  store_half(d, to);
  place_codes<bits>(codes, to + 2);
}

template <int bits>
void unpack_symmetric(const uint8_t* from, float* x) {
  uint8_t codes[kBlock];
  take_codes<bits>(from + 2, codes);
  const float d = load_half(from);
  for (int j = 0; j < kBlock; ++j) x[j] = static_cast<float>(codes[j] - (1 << (bits - 1))) * d;
}

// Q4_1 and Q5_1: code 0 is the minimum.
template <int bits>
void pack_affine(const float* x, uint8_t* to) {
  constexpr int kTop = (1 << bits) - 1;
  uint8_t codes[kBlock];
  const Range range = range_of(x);
  const float d = (range.high - range.low) / kTop;
  codes_of(x, range.low, reciprocal(d), 0.5F, kTop, codes);
  store_half(d, to);
  store_half(range.low, to + 2);
  place_codes<bits>(codes, to + 4);
}

template <int bits>
void unpack_affine(const uint8_t* from, float* x) {
  uint8_t codes[kBlock];
  take_codes<bits>(from + 4, codes);
  const float d = load_half(from), m = load_half(from + 2);
  for (int j = 0; j < kBlock; ++j) x[j] = static_cast<float>(codes[j]) * d + m;
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
  pack_symmetric<4>(x, to);
}

void unpack_q4_0(const uint8_t* from, float* x) {
  unpack_symmetric<4>(from, x);
}

void pack_q4_1(const float* x, uint8_t* to) {
  pack_affine<4>(x, to);
}

void unpack_q4_1(const uint8_t* from, float* x) {
  unpack_affine<4>(from, x);
}

void pack_q5_0(const float* x, uint8_t* to) {
  pack_symmetric<5>(x, to);
}

void unpack_q5_0(const uint8_t* from, float* x) {
  unpack_symmetric<5>(from, x);
}

void pack_q5_1(const float* x, uint8_t* to) {
  pack_affine<5>(x, to);
}

void unpack_q5_1(const uint8_t* from, float* x) {
  unpack_affine<5>(from, x);
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
