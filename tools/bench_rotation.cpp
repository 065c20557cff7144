// bench_rotation: what DuQuant's rotations cost, on one thread.
//
//   bench_rotation [STEPS]      (256)
//
// The greedy search against the plain loop (multiply all rows in float32, look for the extremes, as the
// authors' code does), on three kinds of activations: a few massive channels and tokens, heavy tails, and
// normal values, which leave nothing to prune. Then the online transforms against memcpy of the same bytes.
#include <ATen/Parallel.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#include "ptq/model/transform.h"
#include "ptq/solve/rotation_search.h"

namespace ptq {
namespace {

constexpr int64_t kTokens = 2048;

struct Width {
  int64_t channels;
  int64_t block;
  int64_t sites;  // in a SmolLM2-135M of 30 layers
};
constexpr Width kWidths[] = {{576, 64, 90}, {1536, 128, 30}};

// Time this thread had the processor, so that other programs on the machine disturb less.
double thread_seconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

template <typename Body>
double seconds(const Body& body) {
  const double start = thread_seconds();
  body();
  return thread_seconds() - start;
}

Tensor normal(int64_t rows, int64_t columns) {
  return at::randn({rows, columns}, at::detail::createCPUGenerator(7), at::kFloat);
}

// Four channels 30 times and one 300 times as large as the others, the latter at every 500th token only.
Tensor massive(int64_t channels) {
  Tensor x = normal(kTokens, channels);
  for (int64_t c = 5; c < channels; c += channels / 4) x.select(1, c).mul_(30);
  x.slice(0, 0, kTokens, 500).select(1, 77).mul_(300);
  return x;
}

// Channels of different sizes, tokens of different sizes, Student's t with 5 degrees of freedom.
Tensor heavy_tailed(int64_t channels) {
  const auto generator = at::detail::createCPUGenerator(8);
  const Tensor chi = at::randn({5, kTokens, channels}, generator, at::kFloat).square().sum(0).div(5).sqrt();
  const Tensor sizes = (0.5 * at::randn({1, channels}, generator, at::kFloat)).exp() *
                       (0.3 * at::randn({kTokens, 1}, generator, at::kFloat)).exp();
  return normal(kTokens, channels) / chi * sizes;
}

// The search without any pruning, steps of it. Returns the smallest peak.
double plain_search(const Tensor& x, int64_t block, const Tensor& base, int64_t steps) {
  Tensor rows = x.reshape({-1, block});
  double best = 0;
  for (int64_t k = 0; k <= steps; ++k) {
    const Tensor magnitudes = rows.abs();
    const int64_t largest = at::argmax(magnitudes).item<int64_t>();
    const double peak = magnitudes.view(-1)[largest].item<double>();
    if (k == 0 || peak < best) best = peak;
    if (k == steps) break;
    const int64_t d = largest % block;
    const Tensor index = at::arange(block);
    index[0] = d;
    index[d] = 0;
    rows = at::mm(rows, base.index_select(0, index).index_select(1, index));
  }
  return best;
}

void bench_search(int64_t steps) {
  struct Data {
    const char* name;
    std::function<Tensor(int64_t)> make;
  };
  const Data kinds[] = {
      {"massive", massive},
      {"heavy tails", heavy_tailed},
      {"normal", [](int64_t channels) { return normal(kTokens, channels); }},
  };
  std::printf("search, %d steps   %26s %13s %13s %9s\n", static_cast<int>(steps), "peak", "plain Mvec/s",
              "ours Mvec/s", "ratio");
  for (const Data& data : kinds) {
    double total = 0;
    for (const Width& width : kWidths) {
      const Tensor x = data.make(width.channels);
      const Tensor base = rotation_base(width.block, random_orthogonal(width.block - 1, 1));
      const auto vectors = static_cast<double>(x.numel() / width.block) * 1e-6;
      const int64_t plain_steps = std::min<int64_t>(steps, 16);
      const double plain = seconds([&] { plain_search(x, width.block, base.to(at::kFloat), plain_steps); });
      GreedyRotation found;
      const double ours = seconds([&] { found = greedy_rotation(x, width.block, base, {steps}); });
      total += 2 * ours * static_cast<double>(width.sites);  // R1 and R2
      const double plain_rate = vectors * static_cast<double>(plain_steps + 1) / plain;
      const double our_rate = vectors * static_cast<double>(steps + 1) / ours;
      std::printf("%-12s %5d x %-4d %8.2f -> %-6.2f at %3d %13.2f %13.2f %8.1fx   %.3f s\n", data.name,
                  static_cast<int>(width.channels), static_cast<int>(width.block), found.peak_before,
                  found.peak_after, static_cast<int>(found.steps), plain_rate, our_rate,
                  our_rate / plain_rate, ours);
    }
    std::printf("%-12s both rotations of all 120 sites of SmolLM2-135M: %.1f s\n", data.name, total);
  }
}

double best_of(int64_t repetitions, const std::function<void()>& body) {
  double best = 1e30;
  for (int64_t i = 0; i < repetitions; ++i) best = std::min(best, seconds(body));
  return best;
}

void bench_transform() {
  std::printf("\n%-34s %9s %9s %9s\n", "transform of 2048 tokens", "ms", "GB/s", "memcpy");
  for (const Width& width : kWidths) {
    const Tensor x = normal(kTokens, width.channels);
    const Permutation P{zigzag(x.abs().amax(0), width.block)};
    const Hadamard H = make_block_hadamard(width.channels, width.block);
    const BlockRotation R{random_orthogonal(width.block, 1).to(at::kFloat)};
    const std::pair<const char*, Transform> transforms[] = {
        {"Hadamard P Hadamard", {{H, P, H}}},
        {"R P R", {{R, P, R}}},
        {"P", {{P}}},
    };
    Tensor copy = at::empty_like(x);
    const size_t bytes = x.nbytes();
    const double plain =
        best_of(50, [&] { std::memcpy(copy.mutable_data_ptr(), x.const_data_ptr(), bytes); });
    for (const auto& [name, transform] : transforms) {
      const double time = best_of(20, [&] { copy = transform.apply(x); });
      std::printf("%-20s %5d, block %-4d %7.3f %9.1f %8.1fx\n", name, static_cast<int>(width.channels),
                  static_cast<int>(width.block), time * 1e3, 2 * static_cast<double>(bytes) / time * 1e-9,
                  time / plain);
    }
  }
}

}  // namespace
}  // namespace ptq

int main(int argc, char** argv) {
  at::set_num_threads(1);
  ptq::bench_search(argc > 1 ? std::atoll(argv[1]) : 256);
  ptq::bench_transform();
  return 0;
}
