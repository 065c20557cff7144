// bench_products [ROWS...]: times the rows of the table of integer products, and the float32 product of the
// same weight, on one thread; the default is 1, 8, 64 and 512 rows of activations. First the rows are
// compared with each other: they must give the same bits.
//
// Weights are copied until those in floats take 256 MB and the copies are used in turn, so that, as in a
// model with many layers, a weight is not in a cache when its turn comes. A time is the median of several
// rounds, in each of which every product has its turn, of the time that the thread had the processor. GB/s
// counts a byte a weight in codes, half of one in codes of up to 4 bits, and 4 in floats; GOP/s two
// operations a weight and row.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "ptq/kernels/kernels.h"
#include "ptq/ops/integer_products.h"
#include "ptq/ops/ops.h"

namespace {

using ptq::Tensor;

struct Case {
  const char* name;
  ptq::WeightScheme weight;
  ptq::ActivationScheme activation;
};

constexpr ptq::ActivationScheme kTokens{.per_token = true};
constexpr ptq::ActivationScheme kAsymmetric{8, /*symmetric=*/false, /*per_token=*/true};
constexpr ptq::ActivationScheme kAsymmetric4{4, /*symmetric=*/false, /*per_token=*/true};
constexpr Case kCases[] = {
    {"W8A8, a scale a channel", {8, ptq::Granularity::kChannel}, kTokens},
    {"W4A8, groups of 128, zero points", {4, ptq::Granularity::kGroup, 128, true, false}, kAsymmetric},
    {"W4A4, a scale a channel, zero points of tokens", {4, ptq::Granularity::kChannel}, kAsymmetric4},
    {"MXINT8", {8, ptq::Granularity::kGroup, 32, false, true, ptq::NumberFormat::kMxint}, kTokens},
};

double thread_ms() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) * 1e-6;
}

// A product that is timed; `copy` counts up.
struct Product {
  std::string name;
  double bytes;  // of a weight
  std::function<Tensor(size_t copy)> run;
  std::vector<double> times = {};

  double median_ms() {
    const auto middle = times.begin() + static_cast<int64_t>(times.size() / 2);
    std::nth_element(times.begin(), middle, times.end());
    return *middle;
  }
};

ptq::Activation rounded(const Tensor& x, const ptq::ActivationScheme& scheme) {
  ptq::Activation y;
  y.scheme = scheme;
  if (scheme.symmetric) {
    const Tensor scale = ptq::ops::abs_max_rows(x) / static_cast<double>(scheme.high());
    std::tie(y.codes, y.scale) = ptq::ops::quantize_codes(x, scale, scheme.low(), scheme.high());
  } else {
    std::tie(y.codes, y.zero, y.scale) = ptq::ops::quantize_asymmetric(x, scheme.bits, 1.0);
  }
  return y;
}

// The same weight, in as many places of memory as keep it out of the caches.
std::vector<Product> products_of(const Case& c, int64_t out, int64_t in, const Tensor& x) {
  const auto copies = static_cast<size_t>(std::max<int64_t>(1, (int64_t{64} << 20) / (out * in)));
  const Tensor w = at::randn({out, in});
  std::vector<Tensor> floats;
  for (size_t i = 0; i < copies; ++i) floats.push_back(w.clone());
  std::vector<Product> all = {
      {"float32 GEMM", 4, [=](size_t i) { return ptq::ops::linear(x, floats[i % copies]); }}};
  const ptq::Activation codes = rounded(x, c.activation);
  const ptq::QuantizedTensor q = ptq::round_to_nearest(w, c.weight);
  for (const ptq::IntegerProduct& row : ptq::integer_products()) {
    if (!row.supports(c.weight, c.activation)) continue;
    const bool in_floats = &row == &ptq::integer_products().back();
    std::vector<std::shared_ptr<const ptq::PreparedWeight>> prepared;
    for (size_t i = 0; i < copies; ++i) prepared.push_back(row.prepare(q));
    all.push_back({std::string("table's ") + row.name,
                   in_floats            ? 4.0
                   : c.weight.bits <= 4 ? 0.5
                                        : 1.0,
                   [=](size_t i) { return prepared[i % copies]->product(codes); }});
  }
  return all;
}

bool all_equal(const std::vector<Product>& all) {
  const Tensor reference = all.back().run(0);
  return std::all_of(all.begin() + 1, all.end(),
                     [&](const Product& product) { return at::equal(product.run(0), reference); });
}

void time_all(std::vector<Product>& all) {
  const double begin = thread_ms();
  for (size_t round = 0; round < 7 || (round < 200 && thread_ms() - begin < 1500); ++round) {
    for (Product& product : all) {
      const double start = thread_ms();
      product.run(round);
      if (round > 0) product.times.push_back(thread_ms() - start);
    }
  }
}

bool bench(const Case& c, int64_t rows, int64_t out, int64_t in) {
  std::vector<Product> all = products_of(c, out, in, at::randn({1, rows, in}));
  if (!all_equal(all)) {
    std::printf("%s: results differ\n", c.name);
    return false;
  }
  time_all(all);
  const double float_ms = all.front().median_ms(), work = static_cast<double>(out * in);
  for (Product& product : all) {
    const double ms = product.median_ms();
    std::printf("%4ld rows, %5ld x %-5ld %-18s %9.4f ms %7.1f GB/s %8.1f GOP/s %6.2fx\n", rows, out, in,
                product.name.c_str(), ms, product.bytes * work / (ms * 1e6),
                2 * work * static_cast<double>(rows) / (ms * 1e6), float_ms / ms);
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  at::set_num_threads(1);
  std::vector<int64_t> rows;
  for (int i = 1; i < argc; ++i) rows.push_back(std::strtoll(argv[i], nullptr, 10));
  if (rows.empty()) rows = {1, 8, 64, 512};
  if (*std::min_element(rows.begin(), rows.end()) < 1) {
    std::fputs("usage: bench_products [ROWS...]\n", stderr);
    return 2;
  }
  std::printf("%s\n", ptq::kernels::isa_name(ptq::kernels::chosen<ptq::kernels::CodeProduct>().isa));
  bool same = true;
  for (const Case& c : kCases) {
    std::printf("\n%s; the last column is the ratio to the float32 GEMM\n", c.name);
    for (const int64_t count : rows)
      for (const auto& [out, in] : {std::pair{576, 1536}, {1536, 576}, {2048, 8192}})
        same = bench(c, count, out, in) && same;
  }
  return same ? 0 : 1;
}
