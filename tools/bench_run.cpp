// What a whole run costs, against the float forward over the same tokens.
//
//   bench_run MODEL METHOD [CALIB_TEXT | TOKENS_PER_ROW ROWS]
//
// Prints the rate of a float32 matrix product, by which figures of different machines can be compared; the
// CPU and wall seconds of quantizing and of the float model's forward (all blocks and the head), their ratio,
// and the peak memory of quantizing against the size of the checkpoint. Without a text the rows are random
// token ids.
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>

#include "ptq/artifact/open_model.h"
#include "ptq/base/clock.h"
#include "ptq/base/error.h"
#include "ptq/base/output.h"
#include "ptq/calibration/stream.h"
#include "ptq/calibration/tokens.h"
#include "ptq/engine/evaluate.h"
#include "ptq/ops/ops.h"
#include "ptq/pipeline/run.h"

namespace ptq {
namespace {

struct Cost {
  double cpu_seconds = 0;
  double wall_seconds = 0;
};

template <typename Body>
Cost measure(const Body& body) {
  const Stopwatch wall;
  const std::clock_t cpu = std::clock();
  body();
  return {static_cast<double>(std::clock() - cpu) / CLOCKS_PER_SEC, wall.elapsed_seconds()};
}

// GFLOP/s of CPU time, the best of several products of 1024 x 1024 matrices.
double product_rate() {
  constexpr int64_t kSize = 1024;
  constexpr int kTimes = 20;
  const Tensor x = at::randn({kSize, kSize}), y = at::randn({kSize, kSize});
  double least = 1e9;
  for (int i = 0; i < kTimes; ++i) least = std::min(least, measure([&] { ops::linear(x, y); }).cpu_seconds);
  return 2e-9 * kSize * kSize * kSize / least;
}

// A file of random ids in the range of the vocabulary.
std::string random_tokens(int64_t count, int64_t vocab) {
  std::string bytes;
  uint32_t state = 1;
  for (int64_t i = 0; i < count; ++i) {
    state = state * 1664525 + 1013904223;
    const auto id =
        static_cast<uint32_t>((static_cast<uint64_t>(state) * static_cast<uint64_t>(vocab)) >> 32);
    bytes.append(reinterpret_cast<const char*>(&id), sizeof(id));
  }
  const std::string path = std::filesystem::temp_directory_path() / "bench_run_tokens.bin";
  std::filesystem::remove(path);
  write_file(path, bytes);
  return path;
}

void run_benchmark(int argc, char** argv) {
  RecipeOptions recipe_options;
  recipe_options.method = argv[2];
  RunOptions options;
  options.model_path = argv[1];
  options.force = true;
  options.output = std::filesystem::temp_directory_path() / "bench_run_output";
  if (argc == 5) {
    const int64_t length = std::atoll(argv[3]), rows = std::atoll(argv[4]);
    recipe_options.sets = {"samples=" + std::to_string(rows), "seq_len=" + std::to_string(length)};
    const OpenModel open = open_model(argv[1], {}, at::kCPU);
    options.calibration = {random_tokens(length * rows, open.model->vocab_size())};
    options.token_dtype = "u32";
  } else {
    options.calibration = {argv[3]};
  }
  const Recipe recipe = resolve_recipe(recipe_options);
  Progress progress(std::make_shared<StatusLine>(), ProgressStyle::kQuiet);
  Report report;
  const Cost quantizing = measure([&] { report = run(options, recipe, progress); });

  const OpenModel open = open_model(argv[1], {}, at::kCPU);
  const std::unique_ptr<Tokenizer> tokenizer =
      argc == 5 ? nullptr : Tokenizer::from_file(open.checkpoint->directory() + "/tokenizer.json");
  const std::vector<int64_t> ids =
      read_tokens({{options.calibration[0]}, options.token_dtype}, tokenizer.get(), open.model->vocab_size(),
                  recipe.samples * recipe.seq_len, report.warnings);
  const Tensor windows = first_windows(ids, recipe.samples, recipe.seq_len, options.calibration[0]);
  const Cost forward = measure([&] { evaluate(*open.model, windows, nullptr, [] {}); });

  const auto source_bytes = report.source["bytes"].get<int64_t>();
  std::printf("matrix product  %8.0f GFLOP/s\n", product_rate());
  std::printf("%lld x %lld tokens, %d threads\n", static_cast<long long>(windows.size(0)),
              static_cast<long long>(windows.size(1)), at::get_num_threads());
  std::printf("float forward   %8.2f s CPU %8.2f s wall   (baseline)\n", forward.cpu_seconds,
              forward.wall_seconds);
  std::printf("quantizing      %8.2f s CPU %8.2f s wall   %.2f x the forward's CPU\n", quantizing.cpu_seconds,
              quantizing.wall_seconds, quantizing.cpu_seconds / forward.cpu_seconds);
  for (const auto& [stage, elapsed_ms] : report.time_ms)
    std::printf("  %-20s %8.2f s wall\n", stage.c_str(), elapsed_ms / 1000);
  std::printf("peak memory     %s, checkpoint %s (%.2f of it)\n", format_bytes(report.peak_rss_bytes).c_str(),
              format_bytes(source_bytes).c_str(),
              static_cast<double>(report.peak_rss_bytes) / static_cast<double>(source_bytes));
}

}  // namespace
}  // namespace ptq

int main(int argc, char** argv) {
  if (argc != 4 && argc != 5) {
    std::fprintf(stderr, "usage: bench_run MODEL METHOD (CALIB_TEXT | TOKENS_PER_ROW ROWS)\n");
    return 2;
  }
  try {
    const at::InferenceMode inference;
    ptq::run_benchmark(argc, argv);
    return 0;
  } catch (const ptq::Error& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return static_cast<int>(error.exit_code());
  }
}
