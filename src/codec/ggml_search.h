// Scales of ggml's blocks that leave the least squared error; the essay is in the .cpp file.
#pragma once

#include <cstdint>

#include "codec/ggml_blocks.h"

namespace ptq::ggml {

// What the codes of IQ4_NL stand for: denser near 0, as weights are.
inline constexpr float kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                         1,    13,   25,  38,  53,  69,  89,  113};

// The scale d, as float16 holds it, and the codes of 32 values on the grid d K[u].
float search_table_scale(const float* x, uint8_t* codes);

// 256 values in eight sub-blocks of 32: x = d scale[b] code - m minimum[b]. d and m are as float16 holds
// them; scales and minima have 6 bits.
struct AffineSuperBlock {
  float d, m;
  uint8_t scale[8], minimum[8];
  uint8_t codes[kSuperBlock];  // 0 to top
};
AffineSuperBlock search_affine(const float* x, int top);

// 256 values in sixteen sub-blocks of 16: x = d scale[b] (code - 32).
struct SymmetricSuperBlock {
  float d;
  int8_t scale[16];
  uint8_t codes[kSuperBlock];  // 0 to 63
};
SymmetricSuperBlock search_symmetric(const float* x);

}  // namespace ptq::ggml
