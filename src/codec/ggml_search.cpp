// Scales that leave the least squared error.
//
// For given codes q the best scale s and minimum m of x = s q - m are a least squares fit in two unknowns;
// for given s and m the best codes are the nearest. Alternating the two ends in a local minimum, so the
// search starts from several ranges: that of the values, some narrower ones and some wider. A super-block
// then rounds eight pairs (s, m) to 6 bits under two float16 factors: each pair looks at its neighbours on
// that grid with codes made again, and the factors are fitted to the codes, in turn, while the error falls.
//
// Example: 0 4 4 10 on codes 0 to 3. The range gives s = 10 / 3, the codes 0 1 1 3 and the error 0.89; for
// these codes the best s is 38 / 11, and the error 0.73.
//
// ggml's make_qkx2_quants searches the same starts for one sub-block, rounds once, and does not look back
// from the rounded scales; it weighs errors by |x|. Here all errors count alike. Cost: some 50 passes over
// the values of a block.
#include "codec/ggml_search.h"

#include <algorithm>
#include <cmath>

namespace ptq::ggml {
namespace {

constexpr int kParts = 8, kPart = kSuperBlock / kParts;
constexpr int kRounds = 3;        // of neighbours and factors
constexpr float kLeast = 1e-15F;  // of magnitudes: below it a float16 scale is 0

// Four values at a time: a sum in the order of the values would keep the compiler from doing so. Counts are
// multiples of four.
constexpr int kLanes = 4;
using Lanes = float __attribute__((vector_size(sizeof(float) * kLanes)));
using Integers = int32_t __attribute__((vector_size(sizeof(int32_t) * kLanes)));

Lanes load(const float* x) {
  Lanes lanes;
  std::memcpy(&lanes, x, sizeof(lanes));
  return lanes;
}

float total(const Lanes& lanes) {
  return (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
}

// The nearest codes, 0 to top.
Lanes nearest(const Lanes& code, float top) {
  const Lanes none = {}, up = code + 0.5F, most = none + top;
  const Lanes above = up > none ? up : none;
  const Lanes whole =
      __builtin_convertvector(__builtin_convertvector(above < most + 1 ? above : most, Integers), Lanes);
  return whole < most ? whole : most;
}

int nearest(float code, float top) {
  return static_cast<int>(nearest(Lanes{code}, top)[0]);
}

// Sums over the values of a part and their codes, of which fits and errors are made.
struct Sums {
  float x = 0, xx = 0, q = 0, qq = 0, xq = 0;
};

template <typename CodesOf>  // codes_of(four values)
Sums sums_of(const float* x, int count, const CodesOf& codes_of) {
  Lanes sx = {}, sxx = {}, sq = {}, sqq = {}, sxq = {};
  for (int i = 0; i < count; i += kLanes) {
    const Lanes value = load(x + i), q = codes_of(value);
    sx += value;
    sxx += value * value;
    sq += q;
    sqq += q * q;
    sxq += value * q;
  }
  return {total(sx), total(sxx), total(sq), total(sqq), total(sxq)};
}

struct Line {
  float scale = 0, minimum = 0;  // x = scale q - minimum
};

Sums sums_at(const float* x, int count, Line line, int top) {
  const float inverse = line.scale > 0 ? 1 / line.scale : 0;
  const auto most = static_cast<float>(top);
  return sums_of(x, count,
                 [&](const Lanes& value) { return nearest((value + line.minimum) * inverse, most); });
}

// sum (x - scale q + minimum)^2.
float error_of(const Sums& s, Line line, int count) {
  const float a = line.scale, m = line.minimum;
  return s.xx + a * a * s.qq + static_cast<float>(count) * m * m - 2 * a * s.xq + 2 * m * s.x -
         2 * a * m * s.q;
}

// The best line for the codes whose sums these are, with a minimum of at least 0.
Line fit(const Sums& s, int count) {
  const auto n = static_cast<float>(count);
  const float determinant = n * s.qq - s.q * s.q;
  Line line;
  if (determinant > 0) {
    line.scale = (n * s.xq - s.x * s.q) / determinant;
    line.minimum = (s.q * s.xq - s.qq * s.x) / determinant;
  }
  if (determinant > 0 && line.scale > 0 && line.minimum >= 0) return line;
  return {s.qq > 0 ? std::max(0.0F, s.xq / s.qq) : 0.0F, 0};
}

// The line of one sub-block.
Line search_line(const float* x, int count, int top) {
  const auto [low_at, high_at] = std::minmax_element(x, x + count);
  const float low = std::min(*low_at, 0.0F), high = *high_at;
  if (!(high - low > kLeast)) return {0, -low};
  constexpr int kStarts = 20;
  constexpr float kWidest = -1, kStep = 0.1F;  // of codes that the range spans, past `top`
  Line best;
  float least = INFINITY;
  for (int start = 0; start <= kStarts; ++start) {
    const float codes = static_cast<float>(top) + kWidest + kStep * static_cast<float>(start);
    Line line{(high - low) / codes, -low};
    const Line fitted = fit(sums_at(x, count, line, top), count);
    // The error is that of the codes that the fitted line gets, not of those it was fitted to.
    const float error = error_of(sums_at(x, count, fitted, top), fitted, count);
    if (error >= least) continue;
    least = error;
    best = fitted;
  }
  return best;
}

// A pair of factors and 6-bit multiples while they are searched.
struct Search {
  const float* x;
  int top;
  AffineSuperBlock b;

  Line line(int part) const {
    return {b.d * static_cast<float>(b.scale[part]), b.m * static_cast<float>(b.minimum[part])};
  }
  Line line(int scale, int minimum) const {
    return {b.d * static_cast<float>(scale), b.m * static_cast<float>(minimum)};
  }
  float error(int part, Line at) const {
    return error_of(sums_at(x + kPart * part, kPart, at, top), at, kPart);
  }
  float error() const {
    float sum = 0;
    for (int part = 0; part < kParts; ++part) sum += error(part, line(part));
    return sum;
  }

  // Each part's multiples, or their neighbours where these are better.
  void look_around() {
    for (int part = 0; part < kParts; ++part) {
      const int scale = b.scale[part], minimum = b.minimum[part];
      float least = INFINITY;
      for (int s = std::max(0, scale - 1); s <= std::min(63, scale + 1); ++s) {
        for (int m = std::max(0, minimum - 1); m <= std::min(63, minimum + 1); ++m) {
          const float e = error(part, line(s, m));
          if (e >= least) continue;
          least = e;
          b.scale[part] = static_cast<uint8_t>(s);
          b.minimum[part] = static_cast<uint8_t>(m);
        }
      }
    }
  }

  // The factors fitted to the codes: sum (x - d (scale q) + m minimum)^2 in d and m.
  void refit() {
    double uu = 0, vv = 0, uv = 0, xu = 0, xv = 0;
    for (int part = 0; part < kParts; ++part) {
      const Sums s = sums_at(x + kPart * part, kPart, line(part), top);
      const double scale = b.scale[part], minimum = b.minimum[part];
      uu += scale * scale * s.qq;
      vv += minimum * minimum * kPart;
      uv += scale * minimum * s.q;
      xu += scale * s.xq;
      xv += minimum * s.x;
    }
    const double determinant = uu * vv - uv * uv;
    if (determinant > 1e-6 * uu * vv && vv > 0) {
      b.d = as_half(static_cast<float>((xu * vv - xv * uv) / determinant));
      b.m = as_half(static_cast<float>((xu * uv - xv * uu) / determinant));
    } else if (uu > 0) {
      b.d = as_half(static_cast<float>((xu + static_cast<double>(b.m) * uv) / uu));
    }
  }
};

void write_codes(Search& search) {
  for (int part = 0; part < kParts; ++part) {
    const Line line = search.line(part);
    const float inverse = line.scale > 0 ? 1 / line.scale : 0;
    for (int i = kPart * part; i < kPart * (part + 1); ++i) {
      search.b.codes[i] = static_cast<uint8_t>(
          nearest((search.x[i] + line.minimum) * inverse, static_cast<float>(search.top)));
    }
  }
}

// What the nearest code of IQ4_NL's table stands for: each boundary passed adds a step.
Lanes nearest_in_table(const Lanes& code) {
  const Lanes none = {};
  Lanes value = none + kIq4Values[0];
  for (int i = 0; i < 15; ++i) {
    const Lanes boundary = none + (kIq4Values[i] + kIq4Values[i + 1]) / 2;
    value += code > boundary ? none + (kIq4Values[i + 1] - kIq4Values[i]) : none;
  }
  return value;
}

// Of x on the grid scale * q, where codes_of(x / scale) is q: the sums that a scale needs.
template <typename CodesOf>
Sums scaled_sums(const float* x, int count, float scale, const CodesOf& codes_of) {
  const float inverse = scale != 0 ? 1 / scale : 0;
  return sums_of(x, count, [&](const Lanes& value) { return codes_of(value * inverse); });
}

float scaled_error(const Sums& s, float scale) {
  return s.xx + scale * scale * s.qq - 2 * scale * s.xq;
}

// The scale of a symmetric grid whose extreme code is `extreme`, searched from `starts` ranges on either
// side.
template <typename CodesOf>
float search_scale(const float* x, int count, float extreme, int starts, float step,
                   const CodesOf& codes_of) {
  float most = 0;
  for (int i = 0; i < count; ++i) {
    if (std::fabs(x[i]) > std::fabs(most)) most = x[i];
  }
  if (!(std::fabs(most) > kLeast)) return 0;
  float best = 0, least = INFINITY;
  for (int sign = -1; sign <= 1; sign += 2) {
    for (int start = -starts; start <= starts; ++start) {
      const float from = most / (static_cast<float>(sign) * (extreme + step * static_cast<float>(start)));
      const Sums s = scaled_sums(x, count, from, codes_of);
      if (!(s.qq > 0)) continue;
      const float scale = s.xq / s.qq;
      const float error = scaled_error(scaled_sums(x, count, scale, codes_of), scale);
      if (error >= least) continue;
      least = error;
      best = scale;
    }
  }
  return best;
}

Lanes six_bit_codes(const Lanes& code) {
  return nearest(code + 32, 63) - 32;
}

constexpr int kSixParts = 16, kSixPart = kSuperBlock / kSixParts;

struct SixSearch {
  const float* x;
  SymmetricSuperBlock b;

  Sums sums(int part, int scale) const {
    return scaled_sums(x + kSixPart * part, kSixPart, b.d * static_cast<float>(scale), six_bit_codes);
  }
  float error(int part, int scale) const {
    return scaled_error(sums(part, scale), b.d * static_cast<float>(scale));
  }
  float error() const {
    float sum = 0;
    for (int part = 0; part < kSixParts; ++part) sum += error(part, b.scale[part]);
    return sum;
  }
  void look_around() {
    for (int part = 0; part < kSixParts; ++part) {
      const int at = b.scale[part];
      float least = INFINITY;
      for (int scale = std::max(-128, at - 1); scale <= std::min(127, at + 1); ++scale) {
        const float e = error(part, scale);
        if (e >= least) continue;
        least = e;
        b.scale[part] = static_cast<int8_t>(scale);
      }
    }
  }
  void refit() {
    double uu = 0, xu = 0;
    for (int part = 0; part < kSixParts; ++part) {
      const double scale = b.scale[part];
      const Sums s = sums(part, b.scale[part]);
      uu += scale * scale * s.qq;
      xu += scale * s.xq;
    }
    if (uu > 0) b.d = as_half(static_cast<float>(xu / uu));
  }
};

// Neighbours and factors in turn, while the error falls.
template <typename AnySearch>
void improve(AnySearch& search) {
  search.look_around();
  float least = search.error();
  for (int round = 0; round < kRounds; ++round) {
    AnySearch next = search;
    next.refit();
    next.look_around();
    const float error = next.error();
    if (!(error < least)) return;
    least = error;
    search = next;
  }
}

}  // namespace

float search_table_scale(const float* x, uint8_t* codes) {
  const float d = as_half(search_scale(x, kBlock, kIq4Values[0], 4, 2.5F, nearest_in_table));
  const float inverse = d != 0 ? 1 / d : 0;
  for (int i = 0; i < kBlock; i += kLanes) {
    const Lanes values = nearest_in_table(load(x + i) * inverse);
    for (int j = 0; j < kLanes; ++j)
      codes[i + j] = static_cast<uint8_t>(std::find(kIq4Values, kIq4Values + 15, values[j]) - kIq4Values);
  }
  return d;
}

AffineSuperBlock search_affine(const float* x, int top) {
  Search search{x, top, {}};
  Line lines[kParts];
  float most_scale = 0, most_minimum = 0;
  for (int part = 0; part < kParts; ++part) {
    lines[part] = search_line(x + kPart * part, kPart, top);
    most_scale = std::max(most_scale, lines[part].scale);
    most_minimum = std::max(most_minimum, lines[part].minimum);
  }
  AffineSuperBlock& b = search.b;
  b.d = as_half(most_scale / 63);
  b.m = as_half(most_minimum / 63);
  for (int part = 0; part < kParts; ++part) {
    b.scale[part] = static_cast<uint8_t>(b.d > 0 ? nearest(lines[part].scale / b.d, 63) : 0);
    b.minimum[part] = static_cast<uint8_t>(b.m > 0 ? nearest(lines[part].minimum / b.m, 63) : 0);
  }
  improve(search);
  write_codes(search);
  return b;
}

SymmetricSuperBlock search_symmetric(const float* x) {
  SixSearch search{x, {}};
  float scales[kSixParts], most = 0;
  for (int part = 0; part < kSixParts; ++part) {
    scales[part] = search_scale(x + kSixPart * part, kSixPart, -32, 4, 0.25F, six_bit_codes);
    if (std::fabs(scales[part]) > std::fabs(most)) most = scales[part];
  }
  SymmetricSuperBlock& b = search.b;
  b.d = as_half(most / -128);
  for (int part = 0; part < kSixParts; ++part) {
    const float multiple = b.d != 0 ? std::round(scales[part] / b.d) : 0;
    b.scale[part] = static_cast<int8_t>(std::clamp(multiple, -128.0F, 127.0F));
  }
  improve(search);
  for (int i = 0; i < kSuperBlock; ++i) {
    const float step = b.d * static_cast<float>(b.scale[i / kSixPart]);
    b.codes[i] = static_cast<uint8_t>(nearest(step != 0 ? x[i] / step + 32 : 32, 63));
  }
  return b;
}

}  // namespace ptq::ggml
