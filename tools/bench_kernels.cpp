// bench_kernels: compares every instruction set with the plain loops, prints "all results match", then times
// them on one thread. The last column is the ratio to the plain loops of src/kernels/reference.cpp, compiled
// with -O2.
//
// A time is the median over repetitions, after one to warm up; inputs stay in the caches that they fit in.
#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "ptq/kernels/kernels.h"

namespace {

using ptq::kernels::Isa;
using Floats = std::vector<float>;

Floats normal(int64_t size, float mean, float deviation) {
  std::mt19937 random(1);
  std::normal_distribution<float> distribution(mean, deviation);
  Floats x(static_cast<size_t>(size));
  for (float& value : x) value = distribution(random);
  return x;
}

// The operation on one instruction set, or what it has instead.
template <typename Operands>
void run_on(Isa isa, const Operands& operands) {
  const auto rows = ptq::kernels::candidates<Operands>();
  size_t i = rows.size() - 1;
  while (i > 0 && rows[i].isa != isa) --i;
  rows[i].run(operands);
}

// Those that this machine can run and that have kernels of their own for floats; plain loops first.
std::vector<Isa> isas() {
  std::vector<Isa> all;
  for (const auto& candidate : ptq::kernels::candidates<ptq::kernels::RmsNorm>()) {
    if (ptq::kernels::supports(candidate.isa)) all.push_back(candidate.isa);
  }
  return all;
}

struct Bench {
  std::string name;
  double work;                           // units of work in one run
  const char* unit;                      // of work per nanosecond
  double tolerance;                      // of the comparison, relative to the largest value; 0: same bits
  std::function<void(Isa, float*)> run;  // writes `size` results
  int64_t size;
};

Bench scan_bench(int64_t length, int64_t channels, int64_t state) {
  Floats u = normal(length * channels, 0, 1), dt = normal(length * channels, -3, 1);
  Floats z = normal(length * channels, 0, 2), B = normal(length * state, 0, 1),
         C = normal(length * state, 0, 1);
  Floats A = normal(channels * state, 0, 4), D = normal(channels, 0, 1);
  for (float& a : A) a = -std::fabs(a);
  auto run = [=](Isa isa, float* y) {
    run_on<ptq::kernels::SelectiveScan>(
        isa, {u.data(), dt.data(), z.data(), B.data(), C.data(), A.data(), D.data(), nullptr, y, channels,
              channels, channels, state, state, channels, length, channels, state});
  };
  const std::string name = "selective_scan L=" + std::to_string(length) + " E=" + std::to_string(channels) +
                           " N=" + std::to_string(state);
  return {name, static_cast<double>(length * channels * state), "Gexp/s", 3e-6, run, length * channels};
}

// One head.
Bench ssd_bench(int64_t length, int64_t channels, int64_t state) {
  Floats u = normal(length * channels, 0, 1), dt = normal(length, -3, 1);
  Floats B = normal(length * state, 0, 1), C = normal(length * state, 0, 1);
  Floats D = normal(channels, 0, 1);
  auto run = [=, h = Floats(static_cast<size_t>(state * channels))](Isa isa, float* y) mutable {
    std::fill(h.begin(), h.end(), 0.0f);
    run_on<ptq::kernels::SsdScan>(
        isa, {u.data(), dt.data(), B.data(), C.data(), D.data(), h.data(), y, channels, 1, state, state,
              channels, length, channels, state, -1, 0, 0, INFINITY});
  };
  const std::string name = "ssd_scan L=" + std::to_string(length) + " P=" + std::to_string(channels) +
                           " N=" + std::to_string(state);
  return {name, static_cast<double>(length * channels * state * 5), "GOP/s", 3e-6, run, length * channels};
}

Bench conv_bench(int64_t length, int64_t channels) {
  Floats x = normal(length * channels, 0, 1), weight = normal(channels * 4, 0, 1),
         bias = normal(channels, 0, 1);
  auto run = [=](Isa isa, float* y) {
    run_on<ptq::kernels::CausalConv>(isa, {x.data(), weight.data(), bias.data(), nullptr, y, channels,
                                           channels, channels, length, channels, 4});
  };
  const std::string name =
      "causal_conv1d_silu L=" + std::to_string(length) + " E=" + std::to_string(channels);
  return {name, static_cast<double>(length * channels), "Gexp/s", 1e-6, run, length * channels};
}

Bench hadamard_bench(int64_t rows, int64_t m, int64_t chunk) {
  Floats x = normal(rows * m * chunk, 0, 1), base = normal(m * m, 0, 1);
  for (float& entry : base) entry = entry < 0 && m > 1 ? -1.0f : 1.0f;
  auto run = [=](Isa isa, float* y) {
    const int64_t n = m * chunk;
    run_on<ptq::kernels::Hadamard>(isa, {x.data(), base.data(), y, n, n, rows, n, n, m});
  };
  const std::string name =
      "hadamard " + std::to_string(rows) + " rows of " + std::to_string(m) + "x" + std::to_string(chunk);
  return {name, static_cast<double>(rows * m * chunk * 8), "GB/s", 0, run, rows * m * chunk};
}

std::vector<Bench> row_benches(int64_t rows, int64_t columns) {
  Floats x = normal(rows * columns, 0, 1), scale = normal(rows, 0.02f, 0.001f),
         gain = normal(columns, 1, 0.1f);
  // Codes are bytes, in the place of floats.
  auto quantize = [=](Isa isa, float* y) {
    bool has_nan = false;
    run_on<ptq::kernels::QuantizeCodes>(isa, {x.data(), scale.data(), reinterpret_cast<int8_t*>(y), &has_nan,
                                              columns, columns, 1, rows, columns, -128, 127});
  };
  auto asymmetric = [=](Isa isa, float* y) {
    auto* codes = reinterpret_cast<uint8_t*>(y + rows);
    run_on<ptq::kernels::QuantizeAsymmetric>(
        isa, {x.data(), codes, codes + rows * columns, y, columns, columns, rows, columns, 15, 0.9f});
  };
  auto abs_max = [=](Isa isa, float* y) {
    run_on<ptq::kernels::AbsMaxRows>(isa, {x.data(), y, columns, rows, columns});
  };
  auto rms = [=](Isa isa, float* y) {
    run_on<ptq::kernels::RmsNorm>(isa, {x.data(), gain.data(), y, columns, columns, rows, columns, 1e-5f});
  };
  const std::string shape = " " + std::to_string(rows) + "x" + std::to_string(columns);
  const auto values = static_cast<double>(rows * columns);
  const int64_t bytes = rows * columns + rows;
  return {{"quantize_codes" + shape, values * 5, "GB/s", 0, quantize, (bytes + 3) / 4},
          {"quantize_asymmetric" + shape, values * 5, "GB/s", 0, asymmetric, rows + (bytes + 3) / 4},
          {"abs_max_rows" + shape, values * 4, "GB/s", 0, abs_max, rows},
          {"rms_norm" + shape, values * 8, "GB/s", 2e-6, rms, rows * columns}};
}

// A permutation of 576 or 1536 channels, as DuQuant's, of `rows` tokens.
Bench gather_bench(int64_t rows, int64_t columns) {
  Floats x = normal(rows * columns, 0, 1);
  std::vector<int32_t> index(static_cast<size_t>(columns));
  std::iota(index.begin(), index.end(), 0);
  std::shuffle(index.begin(), index.end(), std::mt19937(1));
  auto run = [=](Isa isa, float* y) {
    run_on<ptq::kernels::GatherColumns>(isa, {x.data(), index.data(), y, columns, columns, rows, columns});
  };
  return {"gather_columns " + std::to_string(rows) + "x" + std::to_string(columns),
          static_cast<double>(rows * columns * 8),
          "GB/s",
          0,
          run,
          rows * columns};
}

// A block of GPTQ: `columns` columns of 64 rows of weights.
Bench round_bench(int64_t columns) {
  constexpr int64_t kRows = 64;
  Floats w = normal(columns * kRows, 0, 1), R = normal(columns * columns, 0, 0.1f);
  Floats scale(kRows, 0.3f), zero(kRows, 1.0f);
  std::vector<int64_t> grid(static_cast<size_t>(columns), 0);
  auto run = [=](Isa isa, float* y) {
    const int64_t size = columns * kRows;
    std::copy(w.begin(), w.end(), y);
    run_on<ptq::kernels::RoundColumns>(
        isa, {w.data(), y, R.data(), scale.data(), scale.data(), zero.data(), grid.data(), y + size,
              y + 2 * size, columns, columns, kRows, -8, 7});
  };
  return {"round_columns " + std::to_string(columns) + " columns of 64",
          static_cast<double>(columns * kRows),
          "G/s",
          0,
          run,
          3 * columns * kRows};
}

bool matches(const Bench& bench, Isa isa) {
  Floats got(static_cast<size_t>(bench.size)), expected(got.size());
  bench.run(isa, got.data());
  bench.run(Isa::kPlain, expected.data());
  if (bench.tolerance == 0) {
    if (std::memcmp(got.data(), expected.data(), got.size() * sizeof(float)) == 0) return true;
    std::printf("%s %s differs\n", bench.name.c_str(), isa_name(isa));
    return false;
  }
  float largest = 0, error = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    largest = std::max(largest, std::fabs(expected[i]));
    error = std::max(error, std::fabs(got[i] - expected[i]));
  }
  const bool good = static_cast<double>(error) <= bench.tolerance * static_cast<double>(largest);
  if (!good)
    std::printf("%s %s differs: %g of %g\n", bench.name.c_str(), isa_name(isa), static_cast<double>(error),
                static_cast<double>(largest));
  return good;
}

// Time this thread had the processor, so that other programs on the machine disturb less.
double thread_ms() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) * 1e-6;
}

double median_ms(const Bench& bench, Isa isa) {
  Floats y(static_cast<size_t>(bench.size));
  std::vector<double> times;
  bench.run(isa, y.data());
  const double begin = thread_ms();
  while (times.size() < 5 || (times.size() < 400 && thread_ms() - begin < 300)) {
    const double start = thread_ms();
    bench.run(isa, y.data());
    times.push_back(thread_ms() - start);
  }
  std::nth_element(times.begin(), times.begin() + static_cast<int64_t>(times.size() / 2), times.end());
  return times[times.size() / 2];
}

}  // namespace

int main() {
  std::vector<Bench> benches = {
      scan_bench(512, 1536, 16),    scan_bench(512, 512, 16),    scan_bench(1, 1536, 16),
      scan_bench(64, 256, 128),     ssd_bench(512, 64, 128),     ssd_bench(1, 64, 128),
      conv_bench(512, 1536),        conv_bench(1, 1536),         hadamard_bench(512, 1, 1024),
      hadamard_bench(512, 12, 128), hadamard_bench(128, 20, 256)};
  for (Bench& bench : row_benches(512, 768)) benches.push_back(std::move(bench));
  benches.push_back(gather_bench(512, 576));
  benches.push_back(gather_bench(128, 1536));
  benches.push_back(round_bench(64));

  bool all_match = true;
  for (const Bench& bench : benches)
    for (const Isa isa : isas()) all_match = matches(bench, isa) && all_match;
  if (!all_match) return 1;
  std::printf("all results match\n\n%-40s %-7s %10s %9s %9s\n", "kernel", "isa", "median ms", "rate",
              "ratio");

  for (const Bench& bench : benches) {
    double plain_ms = 0;
    for (const Isa isa : isas()) {
      const double ms = median_ms(bench, isa);
      if (isa == Isa::kPlain) plain_ms = ms;
      std::printf("%-40s %-7s %10.4f %6.2f %-6s %5.1fx\n", bench.name.c_str(), isa_name(isa), ms,
                  bench.work / (ms * 1e6), bench.unit, plain_ms / ms);
    }
  }
  return 0;
}
