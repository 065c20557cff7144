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

// All columns of the weights at `row`, in `count` whole vectors. Returns the row behind them.
template <int64_t count>
int64_t round_vectors(const RoundColumns& s, int64_t row) {
  for (int64_t j = 0; j < s.columns; ++j) round_lanes<count>(s, j, row, AllLanes{});
  return row + count * kWidth;
}

// Four vectors at once hide the latency of their sums.
void round_columns(const RoundColumns& s) {
  int64_t row = 0;
  while (row + 4 * kWidth <= s.rows) row = round_vectors<4>(s, row);
  const int64_t left = (s.rows - row) / kWidth;
  if (left == 3) row = round_vectors<3>(s, row);
  if (left == 2) row = round_vectors<2>(s, row);
  if (left == 1) row = round_vectors<1>(s, row);
  if (row == s.rows) return;
  const SomeLanes rest(s.rows - row);
  for (int64_t j = 0; j < s.columns; ++j) round_lanes<1>(s, j, row, rest);
}

}  // namespace
}  // namespace ptq::kernels
