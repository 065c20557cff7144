// Every kernel as plain loops that read like its formula: what the vector forms are tested against, and what
// runs where there are none. Speed comes second here.
#include <algorithm>
#include <cmath>

#include "kernels/tables.h"

namespace ptq::kernels {
namespace {

float softplus(float x) {
  return x > 20.0f ? x : std::log1p(std::exp(x));
}

float silu(float x) {
  return x / (1.0f + std::exp(-x));
}

void selective_scan(const SelectiveScan& s) {
  for (int64_t c = 0; c < s.channels; ++c) {
    float local[kMaxState] = {};
    float* h = s.h ? s.h + c * s.state : local;
    for (int64_t t = 0; t < s.length; ++t) {
      const float u = s.u[t * s.u_stride + c];
      const float delta = softplus(s.dt[t * s.dt_stride + c]);
      float sum = s.D[c] * u;
      for (int64_t n = 0; n < s.state; ++n) {
        h[n] = std::exp(delta * s.A[c * s.state + n]) * h[n] + delta * u * s.B[t * s.B_stride + n];
        sum += s.C[t * s.C_stride + n] * h[n];
      }
      s.y[t * s.y_stride + c] = sum * silu(s.z[t * s.z_stride + c]);
    }
  }
}

void ssd_scan(const SsdScan& s) {
  for (int64_t t = 0; t < s.length; ++t) {
    float delta = softplus(s.dt[t * s.dt_stride] + s.dt_bias);
    if (delta < s.delta_low) delta = s.delta_low;
    if (delta > s.delta_high) delta = s.delta_high;
    const float decay = std::exp(delta * s.A);
    for (int64_t c = 0; c < s.channels; ++c) {
      const float u = s.u[t * s.u_stride + c];
      float sum = s.D[c] * u;
      for (int64_t n = 0; n < s.state; ++n) {
        float& h = s.h[n * s.channels + c];
        h = decay * h + delta * u * s.B[t * s.B_stride + n];
        sum += s.C[t * s.C_stride + n] * h;
      }
      s.y[t * s.y_stride + c] = sum;
    }
  }
}

void causal_conv1d_silu(const CausalConv& s) {
  for (int64_t t = 0; t < s.length; ++t) {
    for (int64_t c = 0; c < s.channels; ++c) {
      float sum = s.bias ? s.bias[c] : 0.0f;
      for (int64_t k = 0; k < s.width; ++k) {
        const int64_t from = t - (s.width - 1) + k;
        float x = 0;
        if (from >= 0) {
          x = s.x[from * s.x_stride + c];
        } else if (s.window) {
          x = s.window[(from + s.width - 1) * s.window_stride + c];
        }
        sum += s.weight[c * s.width + k] * x;
      }
      s.y[t * s.y_stride + c] = silu(sum);
    }
  }
}

// y [block] in place, by stages of pairs `half` apart; the vector forms keep this order of additions.
void hadamard_block(const Hadamard& s, float* y) {
  const int64_t chunk = s.block / s.m;
  for (int64_t half = 1; half < chunk; half *= 2) {
    for (int64_t i = 0; i < s.block; i += 2 * half) {
      for (int64_t j = i; j < i + half; ++j) {
        const float a = y[j], b = y[j + half];
        y[j] = a + b;
        y[j + half] = a - b;
      }
    }
  }
  const float factor = static_cast<float>(1.0 / std::sqrt(static_cast<double>(s.block)));
  for (int64_t p = 0; p < chunk; ++p) {
    float column[kMaxHadamardLeft];
    for (int64_t j = 0; j < s.m; ++j) column[j] = y[j * chunk + p];
    for (int64_t i = 0; i < s.m; ++i) {
      float sum = s.left[i * s.m] * column[0];
      for (int64_t j = 1; j < s.m; ++j) sum += s.left[i * s.m + j] * column[j];
      y[i * chunk + p] = sum * factor;
    }
  }
}

void hadamard(const Hadamard& s) {
  for (int64_t r = 0; r < s.rows; ++r) {
    const float* x = s.x + r * s.x_stride;
    float* y = s.y + r * s.y_stride;
    if (x != y) std::copy(x, x + s.columns, y);
    for (int64_t begin = 0; begin < s.columns; begin += s.block) hadamard_block(s, y + begin);
  }
}

// NaN becomes `low`.
float clamp(float x, float low, float high) {
  return x > low ? std::min(x, high) : low;
}

void quantize_codes(const QuantizeCodes& s) {
  *s.has_nan = false;
  for (int64_t r = 0; r < s.rows; ++r) {
    const float scale = s.scale[r * s.scale_stride];
    for (int64_t c = 0; c < s.columns; ++c) {
      const float x = s.x[r * s.x_stride + c];
      s.y[r * s.y_stride + c] = static_cast<int8_t>(clamp(std::nearbyint(x / scale), s.low, s.high));
      if (std::isnan(x)) *s.has_nan = true;
    }
  }
}

void round_to_codes(const RoundToCodes& s) {
  for (int64_t r = 0; r < s.rows; ++r) {
    for (int64_t c = 0; c < s.columns; ++c) {
      const float x = s.x[r * s.x_stride + c], scale = s.scale[c * s.scale_stride];
      const float code = clamp(std::nearbyint(x / scale), s.low, s.high) + 0.0F;
      s.y[r * s.y_stride + c] = std::isnan(x) ? x : code * scale;
    }
  }
}

void quantize_asymmetric(const QuantizeAsymmetric& s) {
  for (int64_t r = 0; r < s.rows; ++r) {
    const float* x = s.x + r * s.x_stride;
    float high = 0, low = 0, not_a_number = 0;
    for (int64_t c = 0; c < s.columns; ++c) {
      if (x[c] > high) high = x[c];
      if (x[c] < low) low = x[c];
      if (std::isnan(x[c])) not_a_number = x[c];
    }
    const float range = high * s.clip - low * s.clip + not_a_number;
    const float quotient = range / s.last;
    const float step = quotient < kSmallestStep ? kSmallestStep : quotient;  // NaN stays NaN
    const float zero = clamp(std::nearbyint((0.0f - low * s.clip) / step), 0.0f, s.last);
    for (int64_t c = 0; c < s.columns; ++c)
      s.y[r * s.y_stride + c] = static_cast<uint8_t>(clamp(std::nearbyint(x[c] / step) + zero, 0.0f, s.last));
    s.step[r] = step;
    s.zero[r] = static_cast<uint8_t>(zero);
  }
}

void abs_max_rows(const AbsMaxRows& s) {
  for (int64_t r = 0; r < s.rows; ++r) {
    float largest = 0;
    for (int64_t c = 0; c < s.columns; ++c) {
      const float value = std::fabs(s.x[r * s.x_stride + c]);
      if (value > largest || std::isnan(value)) largest = value;  // false for any value once largest is NaN
    }
    s.y[r] = largest;
  }
}

void rms_norm(const RmsNorm& s) {
  for (int64_t r = 0; r < s.rows; ++r) {
    const float* x = s.x + r * s.x_stride;
    float sum = 0;
    for (int64_t c = 0; c < s.columns; ++c) sum += x[c] * x[c];
    const float factor = 1.0f / std::sqrt(sum / static_cast<float>(s.columns) + s.eps);
    for (int64_t c = 0; c < s.columns; ++c) s.y[r * s.y_stride + c] = x[c] * factor * s.gain[c];
  }
}

void gather_columns(const GatherColumns& s) {
  for (int64_t r = 0; r < s.rows; ++r) {
    for (int64_t c = 0; c < s.columns; ++c) s.y[r * s.y_stride + c] = s.x[r * s.x_stride + s.index[c]];
  }
}

void round_columns(const RoundColumns& s) {
  for (int64_t j = 0; j < s.columns; ++j) {
    const int64_t grid = s.grid[j] * s.rows;
    for (int64_t r = 0; r < s.rows; ++r) {
      float v = s.v[j * s.rows + r];
      for (int64_t i = 0; i < j; ++i) v += s.R[i * s.R_stride + j] * s.error[i * s.rows + r];
      const float code = clamp(std::nearbyint(v / s.divisor[grid + r]) + s.zero[grid + r], s.low, s.high);
      s.v[j * s.rows + r] = v;
      s.codes[j * s.rows + r] = code;
      s.error[j * s.rows + r] = s.w[j * s.rows + r] - (code - s.zero[grid + r]) * s.scale[grid + r];
    }
  }
}

void product_extremes(const ProductExtremes& s) {
  for (int64_t r = 0; r < kProductRows; ++r) {
    int32_t highest = INT32_MIN, lowest = INT32_MAX;
    for (int64_t c = 0; c < s.tiles * kProductColumns; ++c) {
      const uint8_t* row = s.rows + r * 4;
      const int8_t* column =
          s.columns + (c / kProductColumns * s.quads * kProductColumns + c % kProductColumns) * 4;
      int32_t sum = s.start[c];
      for (int64_t quad = 0; quad < s.quads; ++quad) {
        for (int64_t k = 0; k < 4; ++k)
          sum += row[quad * kProductRows * 4 + k] * column[quad * kProductColumns * 4 + k];
      }
      highest = std::max(highest, sum);
      lowest = std::min(lowest, sum);
    }
    s.highest[r] = highest;
    s.lowest[r] = lowest;
  }
}

int64_t groups_of(const CodeProduct& s) {
  return (s.quads + s.group_quads - 1) / s.group_quads;
}

// Code k of a quad.
int32_t column_code(const CodeProduct& s, int64_t column, int64_t quad, int64_t k) {
  const int64_t in_byte = 8 / s.column_bits;  // quads of which a byte has codes
  const int64_t at = column / kCodeColumns * (s.quads / in_byte) + quad / in_byte;
  const uint8_t byte = s.column_codes[(at * kCodeColumns + column % kCodeColumns) * 4 + k];
  if (s.column_bits == 8) return byte;
  return quad % 2 == 0 ? byte & 15 : byte >> 4;
}

// The sum of a group, which fits in 32 bits though its terms may not: in unsigned numbers, which wrap.
int32_t group_sum(const CodeProduct& s, int64_t row, int64_t column, int64_t group) {
  const int8_t* x = s.row_codes + row * s.row_stride;
  const int64_t at = (column / kCodeColumns * groups_of(s) + group) * kCodeColumns + column % kCodeColumns;
  const int64_t end = std::min(s.quads, (group + 1) * s.group_quads);
  uint32_t sum = 0;
  for (int64_t quad = group * s.group_quads; quad < end; ++quad) {
    for (int64_t k = 0; k < 4; ++k)
      sum += static_cast<uint32_t>(x[quad * 4 + k] * column_code(s, column, quad, k));
  }
  const uint32_t zero = s.column_zero ? s.column_zero[at] : 1U << (s.column_bits - 1);
  sum -= zero * static_cast<uint32_t>(s.row_sums[row * groups_of(s) + group]);
  if (s.row_zero) sum -= static_cast<uint32_t>(s.row_zero[row]) * static_cast<uint32_t>(s.column_sums[at]);
  return static_cast<int32_t>(sum);
}

void code_product(const CodeProduct& s) {
  for (int64_t r = 0; r < s.rows; ++r) {
    for (int64_t c = 0; c < s.columns; ++c) {
      float y = 0;
      for (int64_t g = 0; g < groups_of(s); ++g) {
        const int64_t at = (c / kCodeColumns * groups_of(s) + g) * kCodeColumns + c % kCodeColumns;
        const float part = static_cast<float>(group_sum(s, r, c, g)) * s.column_scale[at];
        y = g == 0 ? part : y + part;
      }
      s.y[r * s.y_stride + c] = y * s.row_scale[r * s.row_scale_stride];
    }
  }
}

}  // namespace

template <>
void run<Isa::kPlain>(const SelectiveScan& s) {
  selective_scan(s);
}
template <>
void run<Isa::kPlain>(const SsdScan& s) {
  ssd_scan(s);
}
template <>
void run<Isa::kPlain>(const CausalConv& s) {
  causal_conv1d_silu(s);
}
template <>
void run<Isa::kPlain>(const Hadamard& s) {
  hadamard(s);
}
template <>
void run<Isa::kPlain>(const QuantizeCodes& s) {
  quantize_codes(s);
}
template <>
void run<Isa::kPlain>(const RoundToCodes& s) {
  round_to_codes(s);
}
template <>
void run<Isa::kPlain>(const QuantizeAsymmetric& s) {
  quantize_asymmetric(s);
}
template <>
void run<Isa::kPlain>(const AbsMaxRows& s) {
  abs_max_rows(s);
}
template <>
void run<Isa::kPlain>(const RmsNorm& s) {
  rms_norm(s);
}
template <>
void run<Isa::kPlain>(const GatherColumns& s) {
  gather_columns(s);
}
template <>
void run<Isa::kPlain>(const RoundColumns& s) {
  round_columns(s);
}
template <>
void run<Isa::kPlain>(const ProductExtremes& s) {
  product_extremes(s);
}
template <>
void run<Isa::kPlain>(const CodeProduct& s) {
  code_product(s);
}

}  // namespace ptq::kernels
