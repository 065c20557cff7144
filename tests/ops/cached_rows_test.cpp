// Keys and values as they are held, and a query that attends to them.
#include "ptq/ops/cached_rows.h"

#include <gtest/gtest.h>

#include <optional>
#include <tuple>
#include <vector>

#include "ptq/ops/ops.h"

namespace ptq {
namespace {

constexpr int64_t kBatch = 2, kHeads = 3;

struct Case {
  const char* name;
  std::optional<ActivationScheme> scheme;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {"floats", {}},
      {"8 bits, one scale", ActivationScheme{}},
      {"8 bits, tokens", ActivationScheme{8, true, true}},
      {"8 bits, heads, zero points", ActivationScheme{8, false, true, 40}},
      {"6 bits, heads, zero points", ActivationScheme{6, false, true, 40}},
      {"4 bits, heads", ActivationScheme{4, true, true, 40}},
      {"4 bits, heads, zero points", ActivationScheme{4, false, true, 40}},
      {"4 bits, tokens, zero points", ActivationScheme{4, false, true}},
      {"3 bits, heads", ActivationScheme{3, true, true, 40}},
  };
  return all;
}

// x [batch, length, heads * width] with values in codes at random, the extremes among them.
Activation rounded(const Tensor& x, const std::optional<ActivationScheme>& scheme) {
  if (!scheme) return {.values = x};
  Activation y{.scheme = *scheme};
  const Tensor rows = scheme->group == 0 ? x : x.unflatten(-1, {-1, scheme->group});
  if (!scheme->symmetric) {
    std::tie(y.codes, y.zero, y.scale) = ops::quantize_asymmetric(rows, scheme->bits, 0.9);
  } else {
    const Tensor scale = scheme->per_token ? ops::abs_max_rows(rows) / 2 / static_cast<double>(scheme->high())
                                           : at::full({1}, 0.02, at::kFloat);
    std::tie(y.codes, y.scale) = ops::quantize_codes(rows, scale, scheme->low(), scheme->high());
  }
  y.codes = y.codes.reshape(x.sizes());
  return y;
}

Tensor by_head(const Tensor& x, int64_t width) {
  return x.unflatten(-1, {-1, width}).transpose(1, 2);
}

TEST(CachedRows, ValuesAreThoseOfTheCodesWhateverTheSteps) {
  at::manual_seed(1);
  const int64_t width = 40;
  for (const Case& c : cases()) {
    const Activation all = rounded(at::randn({kBatch, 200, kHeads * width}), c.scheme);
    Tensor expected = by_head(all.dequantize(), width);
    if (!c.scheme) expected = expected.to(at::kHalf).to(at::kFloat);
    for (const int64_t step : {1, 7, 200}) {
      CachedRows rows(kBatch, kHeads, width, c.scheme, at::kCPU, CacheFloats::kFloat16);
      for (int64_t begin = 0; begin < 200; begin += step) {
        const auto part = [&](const Tensor& t) {
          return t.defined() && t.dim() > 1 ? t.slice(1, begin, begin + step) : t;
        };
        rows.append({part(all.values), part(all.codes), part(all.scale), part(all.zero), all.scheme});
      }
      EXPECT_EQ(rows.size(), 200);
      EXPECT_TRUE(at::equal(rows.values(), expected)) << c.name << ", " << step;
    }
  }
}

TEST(CachedRows, LastTokensAreKeptAndTheBufferStaysBounded) {
  const int64_t width = 40;
  for (const Case& c : cases()) {
    CachedRows rows(kBatch, kHeads, width, c.scheme, at::kCPU, CacheFloats::kFloat16);
    int64_t largest = 0;
    Tensor last;
    for (int64_t i = 0; i < 2000; ++i) {
      const Activation x = rounded(at::randn({kBatch, 1, kHeads * width}), c.scheme);
      last = by_head(x.dequantize(), width);
      rows.append(x);
      rows.keep_last(10);
      largest = std::max(largest, rows.bytes());
    }
    EXPECT_EQ(rows.size(), 10);
    if (!c.scheme) last = last.to(at::kHalf).to(at::kFloat);
    EXPECT_TRUE(at::equal(rows.values().slice(2, 9), last)) << c.name;
    EXPECT_LE(largest, kBatch * kHeads * 120 * (2 * width + 8)) << c.name;
  }
}

TEST(CachedRows, CodesOfFourBitsTakeAQuarterOfFloats) {
  const auto bytes_of = [](const std::optional<ActivationScheme>& scheme) {
    CachedRows rows(1, 2, 128, scheme, at::kCPU, CacheFloats::kFloat16);
    rows.append(rounded(at::randn({1, 1000, 256}), scheme));
    return static_cast<double>(rows.bytes());
  };
  EXPECT_LE(bytes_of(ActivationScheme{4, false, true, 128}), 0.28 * bytes_of({}));
}

TEST(AttendToCached, AgreesWithLibtorchOnWhatIsHeld) {
  at::manual_seed(2);
  for (const int64_t width : {40, 64, 6}) {
    for (Case c : cases()) {
      if (c.scheme && c.scheme->group > 0) c.scheme->group = width;
      for (const int64_t tokens : {1, 5, 33}) {
        CachedRows keys(kBatch, kHeads, width, c.scheme, at::kCPU, CacheFloats::kFloat16), values = keys;
        keys.append(rounded(at::randn({kBatch, tokens, kHeads * width}), c.scheme));
        values.append(rounded(at::randn({kBatch, tokens, kHeads * width}), c.scheme));
        for (const int64_t together : {1, 3, 5}) {
          const Tensor q = at::randn({kBatch, 1, kHeads * together, width});
          const auto repeated = [&](const CachedRows& rows) {
            return rows.values().repeat_interleave(together, 1);
          };
          const Tensor expected =
              at::scaled_dot_product_attention(q.transpose(1, 2), repeated(keys), repeated(values))
                  .transpose(1, 2)
                  .flatten(2);
          EXPECT_TRUE(at::allclose(attend_to_cached(q.flatten(2), keys, values), expected, 1e-5, 1e-5))
              << c.name << ", " << width << ", " << tokens << ", " << together;
        }
      }
    }
  }
}

}  // namespace
}  // namespace ptq
