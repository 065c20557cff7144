// The scan of Mamba-2, vectorised over the channels of a head.
//
// A head has one decay, so a step of a head needs one softplus and one exp, for all its channels and states:
// what is left is the recurrence, two multiplications and two additions of each. A vector holds one state of
// kWidth channels; B[t, n] and C[t, n] are broadcasts and C . h is a chain of fma down the states, as in
// vector_scan.h. Time goes by in tiles of kSsdTile steps: delta and decay of the whole tile first, with the
// steps in the lanes, and then for each vector of channels the recurrence, a group of states at a time, whose
// h stays in registers over the tile.
//
// Include after one of vec_avx2.h and vec_avx512.h.
#pragma once

#include "kernels/vector_math.h"

namespace ptq::kernels {
namespace {

constexpr int64_t kSsdTile = 16;
static_assert(kSsdTile % kWidth == 0);

struct SsdTile {
  alignas(64) float delta[kSsdTile];
  alignas(64) float decay[kSsdTile];
  alignas(64) float input[kSsdTile * kWidth];  // delta u
  alignas(64) float sum[kSsdTile * kWidth];    // D u + C . h
};

inline void begin_steps(const SsdScan& s, int64_t begin, int64_t steps, SsdTile& tile) {
  alignas(64) float dt[kSsdTile] = {};
  for (int64_t i = 0; i < steps; ++i) dt[i] = s.dt[(begin + i) * s.dt_stride] + s.dt_bias;
  const Vec low = broadcast(s.delta_low), high = broadcast(s.delta_high), A = broadcast(s.A);
  for (int64_t i = 0; i < kSsdTile; i += kWidth) {
    const Vec delta = at_most(at_least(softplus(load(dt + i)), low), high);
    store(tile.delta + i, delta);
    store(tile.decay + i, exp(mul(delta, A)));
  }
}

// B, C: their column in the first row of the tile; h: kGroup states of the channels.
template <int64_t kGroup, typename Lanes>
void advance_states(const SsdScan& s, const float* B, const float* C, int64_t steps, float* h, Lanes lanes,
                    SsdTile& tile) {
  Vec state[kGroup];
#pragma GCC unroll 16
  for (int64_t n = 0; n < kGroup; ++n) state[n] = load(h + n * s.channels, lanes);
  for (int64_t i = 0; i < steps; ++i, B += s.B_stride, C += s.C_stride) {
    const Vec decay = broadcast(tile.decay[i]), input = load(tile.input + i * kWidth);
    Vec sum = load(tile.sum + i * kWidth);
#pragma GCC unroll 16
    for (int64_t n = 0; n < kGroup; ++n) {
      state[n] = fma(decay, state[n], mul(input, broadcast(B[n])));
      sum = fma(state[n], broadcast(C[n]), sum);
    }
    store(tile.sum + i * kWidth, sum);
  }
#pragma GCC unroll 16
  for (int64_t n = 0; n < kGroup; ++n) store(h + n * s.channels, state[n], lanes);
}

// Channels from c on.
template <typename Lanes>
void scan_channels(const SsdScan& s, int64_t c, int64_t begin, int64_t steps, Lanes lanes, SsdTile& tile) {
  const Vec D = load(s.D + c, lanes);
  for (int64_t i = 0; i < steps; ++i) {
    const Vec u = load(s.u + (begin + i) * s.u_stride + c, lanes);
    store(tile.input + i * kWidth, mul(broadcast(tile.delta[i]), u));
    store(tile.sum + i * kWidth, mul(D, u));
  }
  const float* B = s.B + begin * s.B_stride;
  const float* C = s.C + begin * s.C_stride;
  float* h = s.h + c;
  int64_t n = 0;
  for (; n + kStateGroup <= s.state; n += kStateGroup)
    advance_states<kStateGroup>(s, B + n, C + n, steps, h + n * s.channels, lanes, tile);
  for (; n < s.state; ++n) advance_states<1>(s, B + n, C + n, steps, h + n * s.channels, lanes, tile);
  for (int64_t i = 0; i < steps; ++i)
    store(s.y + (begin + i) * s.y_stride + c, load(tile.sum + i * kWidth), lanes);
}

void ssd_scan(const SsdScan& s) {
  SsdTile tile;
  for (int64_t begin = 0; begin < s.length; begin += kSsdTile) {
    const int64_t steps = s.length - begin < kSsdTile ? s.length - begin : kSsdTile;
    begin_steps(s, begin, steps, tile);
    int64_t c = 0;
    for (; c + kWidth <= s.channels; c += kWidth) scan_channels(s, c, begin, steps, AllLanes{}, tile);
    if (c < s.channels) scan_channels(s, c, begin, steps, SomeLanes(s.channels - c), tile);
  }
}

}  // namespace
}  // namespace ptq::kernels
