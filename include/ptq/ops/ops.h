// Our kernels as libtorch dispatcher ops.
//
// Each op has a CPU kernel (src/kernels, AVX-512, AVX2 or plain loops, chosen at run time) and a form in ATen
// operations for every other device. Both compute the same function; on one machine each is deterministic for
// any number of threads. All tensors are float32 unless said otherwise and need not be contiguous.
#pragma once

#include <ATen/ATen.h>

#include <tuple>

namespace ptq::ops {

using at::Tensor;

// The selective scan of Mamba-1, with the gate (Mamba, arXiv 2312.00752, algorithm 2):
//   delta = softplus(dt)                      (the identity above 20)
//   h_t   = exp(delta_t A) h_{t-1} + delta_t B_t u_t
//   y_t   = (C_t . h_t + D u_t) * silu(z_t)
//   u, dt, z  [batch, length, inner]
//   A         [inner, state], negative
//   B, C      [batch, length, state]
//   D         [inner]
//   h         [batch, inner, state] or undefined (zero); if defined it is read and overwritten with the last
//             state
// Returns y [batch, length, inner].
Tensor selective_scan(const Tensor& u, const Tensor& dt, const Tensor& A, const Tensor& B, const Tensor& C,
                      const Tensor& D, const Tensor& z, const Tensor& h = {});

// What each head of ssd_scan() does with its inputs.
struct SsdHeads {
  Tensor A;        // [heads], negative
  Tensor dt_bias;  // [heads]
  Tensor D;        // [heads * channels]
  double delta_low = 0;
  double delta_high = 0;  // may be infinity
  int64_t groups = 1;     // divides the heads
};

// The scan of Mamba-2 (arXiv 2405.21060, section 7), with one decay a head. Of head i, which belongs to group
// i / (heads / groups):
//   delta = clamp(softplus(dt + dt_bias), delta_low, delta_high)      (softplus: the identity above 20)
//   h_t   = exp(delta_t A) h_{t-1} + delta_t B_t u_t^T
//   y_t   = C_t . h_t + D u_t
//   u     [batch, length, heads * channels]
//   dt    [batch, length, heads]
//   B, C  [batch, length, groups * state]
//   h     [batch, heads, state, channels] or undefined (zero); if defined it is read and overwritten with the
//         last state
// Returns y [batch, length, heads * channels].
Tensor ssd_scan(const Tensor& u, const Tensor& dt, const Tensor& B, const Tensor& C, const SsdHeads& heads,
                const Tensor& h = {});

// Causal depthwise convolution over time, then silu:
//   y[t, c] = silu(bias[c] + sum_k weight[c, k] x[t - (width - 1) + k, c])
//   x       [batch, length, inner]
//   weight  [inner, width]
//   bias    [inner] or undefined
//   window  [batch, width - 1, inner] or undefined (zeros): the inputs before x, oldest first; if defined it
//           is overwritten with the last width - 1 inputs
Tensor causal_conv1d_silu(const Tensor& x, const Tensor& weight, const Tensor& bias,
                          const Tensor& window = {});

// y = H x along the last dimension, where H is diagonal of blocks (left (x) Sylvester) / sqrt(block):
//   x      [..., num_blocks * block]
//   left   [m, m] of +1 and -1 (float32)
//   block  the size m * 2^k of one block: m contiguous chunks of 2^k. A fast Walsh-Hadamard transform in
//          natural order inside each chunk, then `left` across the chunks (row i gives output chunk i)
Tensor hadamard(const Tensor& x, const Tensor& left, int64_t block);

// round_half_even(x / scale) clamped to [low, high], within -128 to 127. The division is a float32 division.
//   x [..., n]; scale [1], or [..., 1] (one per row)
// Returns the codes, int8 [..., n], and their scale: a copy of `scale`, but NaN where the codes under it
// stand for a NaN, whose own code is `low`.
std::tuple<Tensor, Tensor> quantize_codes(const Tensor& x, const Tensor& scale, int64_t low, int64_t high);

// What such codes stand for, float32 in the shape of x: code * scale; where x is NaN, NaN.
//   x [..., n]; scale [1], or [n] (one per channel)
Tensor round_to_codes(const Tensor& x, const Tensor& scale, int64_t low, int64_t high);

// Rounds every row, or each `group` consecutive values of it if that is not 0, to `bits` bits, dynamic:
//   high = 2^(bits - 1) - 1, step = max(clip max |row| / high, 2^-126),
//   q = clamp(round_half_even(row / step), -high - 1, high)
// x [..., n]; bits 2 to 8; clip in (0, 1]; group divides n. The divisions are float32 divisions.
// Returns q int8 [..., n] and step [..., 1], or [..., n / group, 1]: x is about q step. The step of a row
// with a NaN is NaN, and its q are the lowest.
std::tuple<Tensor, Tensor> quantize_symmetric(const Tensor& x, int64_t bits, double clip, int64_t group = 0);

// The same with a zero point (DuQuant, arXiv 2406.01721):
//   last = 2^bits - 1, mx = clip max(row, 0), mn = clip min(row, 0), step = max((mx - mn) / last, 2^-126),
//   z = clamp(round_half_even(-mn / step), 0, last), q = clamp(round_half_even(x / step) + z, 0, last)
// Returns q uint8 [..., n], z uint8 in the shape of step, and step: x is about (q - z) step. The step of a
// row with a NaN is NaN, and its q and z are 0.
std::tuple<Tensor, Tensor, Tensor> quantize_asymmetric(const Tensor& x, int64_t bits, double clip,
                                                       int64_t group = 0);

// max |x| over the last dimension: x [..., n] -> [..., 1].
Tensor abs_max_rows(const Tensor& x);

// Whether no value of x [..., n] is NaN or infinite.
bool all_finite(const Tensor& x);

// RMS norm: x / sqrt(mean(x^2) + eps) * gain, along the last dimension, or along each of `groups` equal parts
// of it. x [..., n], gain [n].
Tensor rms_norm(const Tensor& x, const Tensor& gain, double eps, int64_t groups = 1);

// x[..., index]: a permutation or selection of the last dimension. x [..., n], index [m] int64, each in [0,
// n).
Tensor gather_columns(const Tensor& x, const Tensor& index);

// x [..., in] times W [out, in] transposed, plus bias [out] (may be undefined). By MKL on Intel's processors
// and by oneDNN on others, whichever is the faster there. float32 throughout: integers stay exact to 2^24.
Tensor linear(const Tensor& x, const Tensor& W, const Tensor& bias = {});

// x^T x for x [rows, n]: [n, n] float32, exactly symmetric. Little more than half the work of the full
// product: blocks below the diagonal are copied from those above. The same bits for any number of threads.
Tensor gram(const Tensor& x);

// Adds x^T x, computed in float32, to `sum` [n, n], in place, on and above its diagonal; what is below
// becomes meaningless until mirror_upper() is called.
void add_gram(const Tensor& sum, const Tensor& x);

// Adds a^T b, computed in float32, to `sum` [n, m] float64, in place. a [rows, n], b [rows, m]. The same bits
// for any number of threads.
void add_cross(const Tensor& sum, const Tensor& a, const Tensor& b);

// Copies what is above the diagonal of a matrix [n, n] below it, in place.
void mirror_upper(const Tensor& matrix);

// The most advanced instruction set the CPU kernels run with: "avx512vnni", "avx512", "avx2" or "plain".
// PTQ_ISA forces one.
const char* isa_name();

}  // namespace ptq::ops
