// The causal depthwise convolution with silu, vectorised over channels.
//
// A step reads `width` neighbouring rows of x, all but one of them still in L1 from the step before, and the
// weights as rows of [width, channels]: a transposed copy for kConvChannels channels is made first. silu is
// most of the cost.
//
// Include after one of vec_avx2.h and vec_avx512.h.
#pragma once

#include "kernels/vector_math.h"

namespace ptq::kernels {
namespace {

constexpr int64_t kConvChannels = 256;

alignas(64) constexpr float kZeroRow[kConvChannels] = {};

// Channels [begin, begin + count), at most kConvChannels of them.
struct ConvPart {
  int64_t begin, count;
  alignas(64) float weight[kMaxConvWidth * kConvChannels];  // [width, count]
};

// The inputs of step t at the part's first channel: a row of x, of the window before it, or zeros.
inline const float* conv_row(const CausalConv& s, int64_t t, int64_t begin) {
  if (t >= 0) return s.x + t * s.x_stride + begin;
  return s.window ? s.window + (t + s.width - 1) * s.window_stride + begin : kZeroRow;
}

// kTaps is the width, or 0 to read it from s: a constant lets the compiler unroll the taps.
template <int64_t kTaps, typename Lanes>
inline void conv_vector(const CausalConv& s, const ConvPart& part, const float* const* rows, int64_t c,
                        float* y, Lanes lanes) {
  const int64_t taps = kTaps ? kTaps : s.width;
  Vec sum = s.bias ? load(s.bias + part.begin + c, lanes) : zero();
  for (int64_t k = 0; k < taps; ++k)
    sum = fma(load(part.weight + k * kConvChannels + c), load(rows[k] + c, lanes), sum);
  store(y + c, silu(sum), lanes);
}

template <int64_t kTaps>
void conv_part(const CausalConv& s, const ConvPart& part) {
  const int64_t whole = part.count - part.count % kWidth;
  const SomeLanes rest(part.count - whole);
  for (int64_t t = 0; t < s.length; ++t) {
    const float* rows[kMaxConvWidth];
    for (int64_t k = 0; k < s.width; ++k) rows[k] = conv_row(s, t - (s.width - 1) + k, part.begin);
    float* y = s.y + t * s.y_stride + part.begin;
    for (int64_t c = 0; c < whole; c += kWidth) conv_vector<kTaps>(s, part, rows, c, y, AllLanes{});
    if (whole < part.count) conv_vector<kTaps>(s, part, rows, whole, y, rest);
  }
}

void causal_conv1d_silu(const CausalConv& s) {
  ConvPart part;
  for (part.begin = 0; part.begin < s.channels; part.begin += kConvChannels) {
    part.count = s.channels - part.begin < kConvChannels ? s.channels - part.begin : kConvChannels;
    const int64_t padded = (part.count + kWidth - 1) / kWidth * kWidth;
    for (int64_t c = 0; c < padded; ++c)
      for (int64_t k = 0; k < s.width; ++k)
        part.weight[k * kConvChannels + c] = c < part.count ? s.weight[(part.begin + c) * s.width + k] : 0.0f;
    if (s.width == 4) {
      conv_part<4>(s, part);
    } else {
      conv_part<0>(s, part);
    }
  }
}

}  // namespace
}  // namespace ptq::kernels
