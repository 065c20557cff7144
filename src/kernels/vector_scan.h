// The selective scan, vectorised over channels.
//
// A vector holds one state of kWidth neighbouring channels, so B[t, n] and C[t, n], which all channels share,
// are broadcasts, and C . h is a chain of fma down the states: no sum across lanes. The cost is one exp per
// channel, step and state (state = 16: 12.6 million for 512 steps of 1536 channels); the rest is per channel
// and step.
//
// For kWidth channels, time goes by in tiles of kTile steps, each in three sweeps over arrays in L1:
//   1. delta = softplus(dt), delta u and D u for all steps of the tile: independent, so they overlap
//   2. the recurrence, for a group of states whose h stays in registers over the tile
//   3. the gate
// One sweep would put softplus, exp and the recurrence of a step into one chain of dependent instructions,
// longer than the processor looks ahead.
//
// exp(delta A) is 2^(delta (A log2 e)), with the factor in the copy of A. It rounds the exponent once more,
// which moves e^-x by at most x e^-x units of 2^-24, less than half a unit of the old state's weight.
//
// Include after one of vec_avx2.h and vec_avx512.h.
#pragma once

#include "kernels/vector_math.h"

namespace ptq::kernels {
namespace {

constexpr int64_t kTile = 8;
constexpr int64_t kGroupFloats = 8192;  // of h, and as many of A: 512 channels of 16 states
static_assert(kGroupFloats >= kMaxState * kWidth);

struct ScanTile {
  alignas(64) float delta[kTile * kWidth];
  alignas(64) float input[kTile * kWidth];  // delta u
  alignas(64) float sum[kTile * kWidth];    // D u + C . h
};

// [count, state] of the caller -> [state, kWidth], zero beyond count.
inline void to_state_major(const float* src, int64_t count, int64_t state, float* dst) {
  const int64_t tiled = count == kWidth ? state - state % kWidth : 0;
  for (int64_t n = 0; n < tiled; n += kWidth) transpose_tile(src + n, state, dst + n * kWidth, kWidth);
  for (int64_t n = tiled; n < state; ++n)
    for (int64_t i = 0; i < kWidth; ++i) dst[n * kWidth + i] = i < count ? src[i * state + n] : 0.0f;
}

inline void from_state_major(const float* src, int64_t count, int64_t state, float* dst) {
  const int64_t tiled = count == kWidth ? state - state % kWidth : 0;
  for (int64_t n = 0; n < tiled; n += kWidth) transpose_tile(src + n * kWidth, kWidth, dst + n, state);
  for (int64_t i = 0; i < count; ++i)
    for (int64_t n = tiled; n < state; ++n) dst[i * state + n] = src[n * kWidth + i];
}

// Asks for the cache lines that the channels after the next ones need: a tile touches four arrays in kTile
// pages each, more streams than the processor's own prefetcher follows. Inlined by force: GCC 12 sees no
// effect in the function and drops its calls.
[[gnu::always_inline]] inline void prefetch_row(const SelectiveScan& s, int64_t c, int64_t t) {
  const int64_t ahead = c + 2 * kWidth;
  if (ahead >= s.channels) return;
  __builtin_prefetch(s.u + t * s.u_stride + ahead);
  __builtin_prefetch(s.dt + t * s.dt_stride + ahead);
  __builtin_prefetch(s.z + t * s.z_stride + ahead);
  __builtin_prefetch(s.y + t * s.y_stride + ahead, 1);
}

template <typename Lanes>
void begin_tile(const SelectiveScan& s, int64_t c, int64_t begin, int64_t steps, Lanes lanes,
                ScanTile& tile) {
  const Vec D = load(s.D + c, lanes);
  for (int64_t i = 0; i < steps; ++i) {
    prefetch_row(s, c, begin + i);
    const Vec u = load(s.u + (begin + i) * s.u_stride + c, lanes);
    const Vec delta = softplus(load(s.dt + (begin + i) * s.dt_stride + c, lanes));
    store(tile.delta + i * kWidth, delta);
    store(tile.input + i * kWidth, mul(delta, u));
    store(tile.sum + i * kWidth, mul(D, u));
  }
}

// A2 and h: kGroup states of [state, kWidth]; B and C: their column in the first row of the tile.
template <int64_t kGroup>
void advance_group(const SelectiveScan& s, const float* B, const float* C, int64_t steps, const float* A2,
                   float* h, ScanTile& tile) {
  Vec state[kGroup];
#pragma GCC unroll 16
  for (int64_t n = 0; n < kGroup; ++n) state[n] = load(h + n * kWidth);
  for (int64_t i = 0; i < steps; ++i, B += s.B_stride, C += s.C_stride) {
    const Vec delta = load(tile.delta + i * kWidth), input = load(tile.input + i * kWidth);
    Vec sum = load(tile.sum + i * kWidth);
#pragma GCC unroll 16
    for (int64_t n = 0; n < kGroup; ++n) {
      const Vec decay = exp2(mul(delta, load(A2 + n * kWidth)));
      state[n] = fma(decay, state[n], mul(input, broadcast(B[n])));
      sum = fma(state[n], broadcast(C[n]), sum);
    }
    store(tile.sum + i * kWidth, sum);
  }
#pragma GCC unroll 16
  for (int64_t n = 0; n < kGroup; ++n) store(h + n * kWidth, state[n]);
}

inline void advance_tile(const SelectiveScan& s, int64_t begin, int64_t steps, const float* A2, float* h,
                         ScanTile& tile) {
  const float* B = s.B + begin * s.B_stride;
  const float* C = s.C + begin * s.C_stride;
  int64_t n = 0;
  for (; n + kStateGroup <= s.state; n += kStateGroup)
    advance_group<kStateGroup>(s, B + n, C + n, steps, A2 + n * kWidth, h + n * kWidth, tile);
  for (; n < s.state; ++n) advance_group<1>(s, B + n, C + n, steps, A2 + n * kWidth, h + n * kWidth, tile);
}

template <typename Lanes>
void end_tile(const SelectiveScan& s, int64_t c, int64_t begin, int64_t steps, Lanes lanes,
              const ScanTile& tile) {
  for (int64_t i = 0; i < steps; ++i) {
    const Vec gate = silu(load(s.z + (begin + i) * s.z_stride + c, lanes));
    store(s.y + (begin + i) * s.y_stride + c, mul(load(tile.sum + i * kWidth), gate), lanes);
  }
}

// A2 and h: [state, kWidth] of the channels [c, c + kWidth).
template <typename Lanes>
void scan_tile(const SelectiveScan& s, int64_t c, int64_t begin, int64_t steps, Lanes lanes, const float* A2,
               float* h) {
  ScanTile tile;
  begin_tile(s, c, begin, steps, lanes, tile);
  advance_tile(s, begin, steps, A2, h, tile);
  end_tile(s, c, begin, steps, lanes, tile);
}

// Channels [first, first + count), whose state fits kGroupFloats.
void scan_group(const SelectiveScan& s, int64_t first, int64_t count) {
  alignas(64) float A2[kGroupFloats];  // for each kWidth channels [state, kWidth]
  alignas(64) float h[kGroupFloats];
  const int64_t block = s.state * kWidth;
  for (int64_t i = 0; i < count; i += kWidth) {
    const int64_t lanes = count - i < kWidth ? count - i : kWidth;
    float* A2_block = A2 + i * s.state;
    to_state_major(s.A + (first + i) * s.state, lanes, s.state, A2_block);
    for (int64_t j = 0; j < block; j += kWidth)
      store(A2_block + j, mul(load(A2_block + j), broadcast(kLog2E)));
    if (s.h) {
      to_state_major(s.h + (first + i) * s.state, lanes, s.state, h + i * s.state);
    } else {
      for (int64_t j = 0; j < block; j += kWidth) store(h + i * s.state + j, zero());
    }
  }
  for (int64_t begin = 0; begin < s.length; begin += kTile) {
    const int64_t steps = s.length - begin < kTile ? s.length - begin : kTile;
    int64_t i = 0;
    for (; i + kWidth <= count; i += kWidth)
      scan_tile(s, first + i, begin, steps, AllLanes{}, A2 + i * s.state, h + i * s.state);
    if (i < count)
      scan_tile(s, first + i, begin, steps, SomeLanes(count - i), A2 + i * s.state, h + i * s.state);
  }
  if (!s.h) return;
  for (int64_t i = 0; i < count; i += kWidth)
    from_state_major(h + i * s.state, count - i < kWidth ? count - i : kWidth, s.state,
                     s.h + (first + i) * s.state);
}

void selective_scan(const SelectiveScan& s) {
  const int64_t group = kGroupFloats / s.state / kWidth * kWidth;
  for (int64_t first = 0; first < s.channels; first += group)
    scan_group(s, first, s.channels - first < group ? s.channels - first : group);
}

}  // namespace
}  // namespace ptq::kernels
