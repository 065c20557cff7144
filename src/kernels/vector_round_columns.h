// round_columns on vectors: lanes are weights of one column, which do not depend on each other. Sums over the
// columns before stay in registers.
//
// Include after one of vec_avx2.h and vec_avx512.h.
#pragma once

namespace ptq::kernels {
namespace {

// Column j of the weights at `row`, in `count` vectors next to each other of which the last one may be short.
template <int64_t count, typename Lanes>
inline void round_lanes(const RoundColumns& s, int64_t j, int64_t row, Lanes lanes) {
  Vec v[count];
  const int64_t here = j * s.rows + row, grid = s.grid[j] * s.rows + row;
#pragma GCC unroll 4
  for (int64_t k = 0; k < count; ++k) v[k] = load(s.v + here + k * kWidth, lanes);
  const float* error = s.error + row;
  const float* factor = s.R + j;
  for (int64_t i = 0; i < j; ++i, error += s.rows, factor += s.R_stride) {
    const Vec f = broadcast(*factor);
#pragma GCC unroll 4
    for (int64_t k = 0; k < count; ++k) v[k] = add(v[k], mul(f, load(error + k * kWidth, lanes)));
  }
  const Vec low = broadcast(s.low), high = broadcast(s.high);
#pragma GCC unroll 4
  for (int64_t k = 0; k < count; ++k) {
    const int64_t at = here + k * kWidth, at_grid = grid + k * kWidth;
    const Vec zero_point = load(s.zero + at_grid, lanes);
    const Vec nearest = add(round_even(div(v[k], load(s.divisor + at_grid, lanes))), zero_point);
    const Vec code = at_most(at_least(low, nearest), high);  // in this order NaN gives `low`
    store(s.v + at, v[k], lanes);
    store(s.codes + at, code, lanes);
    const Vec value = mul(sub(code, zero_point), load(s.scale + at_grid, lanes));
    store(s.error + at, sub(load(s.w + at, lanes), value), lanes);
  }
}

void round_columns(const RoundColumns& s) {
  constexpr int64_t kAtOnce = 4;
  int64_t row = 0;
  for (; row + kAtOnce * kWidth <= s.rows; row += kAtOnce * kWidth)
    for (int64_t j = 0; j < s.columns; ++j) round_lanes<kAtOnce>(s, j, row, AllLanes{});
  for (; row + kWidth <= s.rows; row += kWidth)
    for (int64_t j = 0; j < s.columns; ++j) round_lanes<1>(s, j, row, AllLanes{});
  if (row == s.rows) return;
  const SomeLanes rest(s.rows - row);
  for (int64_t j = 0; j < s.columns; ++j) round_lanes<1>(s, j, row, rest);
}

}  // namespace
}  // namespace ptq::kernels
