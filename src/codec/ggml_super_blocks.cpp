// Blocks of 256 values, "K-quants": sub-blocks with small integer scales under one float16 scale.
//   Q4_K  d, m, 12 bytes of scales and minima, 128 bytes; byte 32 k + l holds value 64 k + l in its low half,
//         value 64 k + 32 + l in its high one
//   Q5_K  the same with 32 bytes before the 128: bits 2 k and 2 k + 1 of byte l are the fifth bits of those
//   Q6_K  128 bytes of low halves, 64 of the two bits above, 16 x int8 scales, d
#include "codec/ggml_blocks.h"
#include "codec/ggml_search.h"

namespace ptq::ggml {
namespace {

constexpr int kParts = 8, kPart = kSuperBlock / kParts;
constexpr int kScaleBytes = 12;

// Scales and minima of 6 bits: those of the first four sub-blocks lie in the low bits of bytes 0 to 7, of the
// others four bits lie in bytes 8 to 11 and two on top of the first eight.
void place_scales(const AffineSuperBlock& b, uint8_t* to) {
  std::memset(to, 0, kScaleBytes);
  for (int j = 0; j < 4; ++j) {
    to[j] = static_cast<uint8_t>(b.scale[j] | (b.scale[j + 4] >> 4) << 6);
    to[j + 4] = static_cast<uint8_t>(b.minimum[j] | (b.minimum[j + 4] >> 4) << 6);
    to[j + 8] = static_cast<uint8_t>((b.scale[j + 4] & 15) | (b.minimum[j + 4] & 15) << 4);
  }
}

void take_scales(const uint8_t* from, uint8_t* scale, uint8_t* minimum) {
  for (int j = 0; j < 4; ++j) {
    scale[j] = from[j] & 63;
    minimum[j] = from[j + 4] & 63;
    scale[j + 4] = static_cast<uint8_t>((from[j + 8] & 15) | (from[j] >> 6) << 4);
    minimum[j + 4] = static_cast<uint8_t>(from[j + 8] >> 4 | (from[j + 4] >> 6) << 4);
  }
}

// Four bits of each code.
void place_halves(const uint8_t* codes, uint8_t* to) {
  for (int k = 0; k < 4; ++k) {
    for (int l = 0; l < kPart; ++l)
      to[32 * k + l] = static_cast<uint8_t>((codes[64 * k + l] & 15) | (codes[64 * k + 32 + l] & 15) << 4);
  }
}

void take_halves(const uint8_t* from, uint8_t* codes) {
  for (int k = 0; k < 4; ++k) {
    for (int l = 0; l < kPart; ++l) {
      codes[64 * k + l] = from[32 * k + l] & 15;
      codes[64 * k + 32 + l] = from[32 * k + l] >> 4;
    }
  }
}

// `from` is the whole block.
void affine_values(const uint8_t* from, const uint8_t* codes, float* x) {
  const float d = load_half(from), m = load_half(from + 2);
  uint8_t scale[kParts], minimum[kParts];
  take_scales(from + 4, scale, minimum);
  for (int j = 0; j < kParts; ++j) {
    const float step = d * static_cast<float>(scale[j]), low = m * static_cast<float>(minimum[j]);
    for (int l = 0; l < kPart; ++l) {
      const int i = kPart * j + l;
      x[i] = step * static_cast<float>(codes[i]) - low;
    }
  }
}

void place_head(const AffineSuperBlock& b, uint8_t* to) {
  store_half(b.d, to);
  store_half(b.m, to + 2);
  place_scales(b, to + 4);
}

// Where the bits of value 128 n + 32 k + l of Q6_K lie.
struct SixBits {
  int value, low, low_shift, high, high_shift;
};
SixBits six_bits(int n, int k, int l) {
  return {128 * n + 32 * k + l, 64 * n + 32 * (k & 1) + l, 4 * (k >> 1), 32 * n + l, 2 * k};
}

template <typename Visit>
void for_each_six_bits(const Visit& visit) {
  for (int n = 0; n < 2; ++n) {
    for (int k = 0; k < 4; ++k) {
      for (int l = 0; l < kPart; ++l) visit(six_bits(n, k, l));
    }
  }
}

constexpr int kLowBytes = 128, kHighBytes = 64, kSixScales = 16;

}  // namespace

void pack_q4_k(const float* x, uint8_t* to) {
  const AffineSuperBlock b = search_affine(x, 15);
  place_head(b, to);
  place_halves(b.codes, to + 16);
}

void unpack_q4_k(const uint8_t* from, float* x) {
  uint8_t codes[kSuperBlock];
  take_halves(from + 16, codes);
  affine_values(from, codes, x);
}

void pack_q5_k(const float* x, uint8_t* to) {
  const AffineSuperBlock b = search_affine(x, 31);
  place_head(b, to);
  uint8_t* const fifth = to + 16;
  std::memset(fifth, 0, kPart);
  for (int i = 0; i < kSuperBlock; ++i)
    fifth[i % kPart] = static_cast<uint8_t>(fifth[i % kPart] | (b.codes[i] >> 4) << (i / kPart));
  place_halves(b.codes, to + 48);
}

void unpack_q5_k(const uint8_t* from, float* x) {
  uint8_t codes[kSuperBlock];
  take_halves(from + 48, codes);
  for (int i = 0; i < kSuperBlock; ++i)
    codes[i] = static_cast<uint8_t>(codes[i] | (from[16 + i % kPart] >> (i / kPart) & 1) << 4);
  affine_values(from, codes, x);
}

void pack_q6_k(const float* x, uint8_t* to) {
  const SymmetricSuperBlock b = search_symmetric(x);
  std::memset(to, 0, kLowBytes + kHighBytes);
  uint8_t* const high = to + kLowBytes;
  for_each_six_bits([&](const SixBits& at) {
    const uint8_t code = b.codes[at.value];
    to[at.low] = static_cast<uint8_t>(to[at.low] | (code & 15) << at.low_shift);
    high[at.high] = static_cast<uint8_t>(high[at.high] | (code >> 4) << at.high_shift);
  });
  std::memcpy(high + kHighBytes, b.scale, kSixScales);
  store_half(b.d, high + kHighBytes + kSixScales);
}

void unpack_q6_k(const uint8_t* from, float* x) {
  const uint8_t *const high = from + kLowBytes, *const scales = high + kHighBytes;
  const float d = load_half(scales + kSixScales);
  for_each_six_bits([&](const SixBits& at) {
    const int low_bits = from[at.low] >> at.low_shift & 15, high_bits = high[at.high] >> at.high_shift & 3;
    const auto scale = static_cast<float>(static_cast<int8_t>(scales[at.value / 16]));
    x[at.value] = d * scale * static_cast<float>((low_bits | high_bits << 4) - 32);
  });
}

}  // namespace ptq::ggml
