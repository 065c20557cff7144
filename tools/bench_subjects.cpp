#include "bench_subjects.h"

#include <ATen/Parallel.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <random>

#include "ptq/base/clock.h"
#include "ptq/base/interrupt.h"
#include "ptq/base/memory.h"
#include "ptq/engine/decoder.h"
#include "ptq/engine/library_calls.h"
#include "ptq/export/formats.h"
#include "ptq/ops/integer_products.h"
#include "ptq/ops/ops.h"

namespace ptq {
namespace {

constexpr double kMinSeconds = 0.2;  // of what is repeated until it can be timed

// Bytes: four times the last cache, within reason.
int64_t buffer_bytes() {
  int64_t cache = 0;
#if defined(_SC_LEVEL3_CACHE_SIZE)
  cache = ::sysconf(_SC_LEVEL3_CACHE_SIZE);
#endif
  return std::clamp<int64_t>(4 * cache, int64_t{256} << 20, int64_t{1} << 30);
}

// Eight sums, so that additions do not wait for each other.
uint64_t sum_of(const uint64_t* x, int64_t count) {
  uint64_t sums[8] = {};
  for (int64_t i = 0; i + 8 <= count; i += 8) {
    for (int64_t j = 0; j < 8; ++j) sums[j] += x[i + j];
  }
  return std::accumulate(std::begin(sums), std::end(sums), uint64_t{0});
}

double read_gb_per_second(const std::vector<uint64_t>& buffer) {
  const auto count = static_cast<int64_t>(buffer.size());
  const int64_t threads = at::get_num_threads(), part = (count + threads - 1) / threads;
  std::vector<uint64_t> sums(static_cast<size_t>(threads));
  const Stopwatch clock;
  at::parallel_for(0, threads, 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const int64_t begin = std::min(count, i * part), end = std::min(count, begin + part);
      sums[static_cast<size_t>(i)] = sum_of(buffer.data() + begin, end - begin);
    }
  });
  const double seconds = clock.elapsed_seconds();
  // The buffer holds ones: a sum that nothing uses would not be computed.
  const uint64_t total = std::accumulate(sums.begin(), sums.end(), uint64_t{0});
  const double read = static_cast<double>(total) * sizeof(uint64_t);
  return read / (seconds * 1e9);
}

double integer_gop_per_second(const PreparedWeight& weight, const Activation& x, double operations) {
  const Stopwatch clock;
  int64_t products = 0;
  for (; products == 0 || clock.elapsed_seconds() < kMinSeconds; ++products) weight.product(x);
  return operations * static_cast<double>(products) / (clock.elapsed_seconds() * 1e9);
}

// The name of the weight, or of its scales and zero points.
bool belongs_to(const std::string& tensor, const std::string& weight) {
  return !weight.empty() && (tensor == weight || tensor.starts_with(weight + "_"));
}

// Of all tensors but those that a step reads a few rows of, or not at all: the embedding beside a head, and a
// stored copy of the embedding in place of one.
int64_t step_bytes(const OpenModel& open) {
  const std::string tied_head = open.model->tied_head();
  std::vector<std::string> left_out = {tied_head};
  for (const Weight* weight : open.model->outer_weights()) {
    if (weight->role == Role::kEmbedding && tied_head.empty()) left_out.push_back(weight->name);
  }
  int64_t bytes = 0;
  for (const TensorInfo& tensor : open.checkpoint->tensors()) {
    if (std::none_of(left_out.begin(), left_out.end(),
                     [&](const std::string& name) { return belongs_to(tensor.name, name); }))
      bytes += tensor.bytes();
  }
  return bytes;
}

int64_t block_parameters(const OpenModel& open) {
  int64_t parameters = open.model->num_parameters();
  for (const Weight* weight : open.model->outer_weights()) parameters -= weight->numel();
  return parameters;
}

// [batch, length]
Tensor random_ids(const BenchOptions& options, int64_t vocab_size) {
  std::mt19937_64 generator(options.seed);
  Tensor ids = at::empty({options.batch, options.prompt}, at::kLong);
  int64_t* const data = ids.mutable_data_ptr<int64_t>();
  for (int64_t i = 0; i < ids.numel(); ++i)
    data[i] = static_cast<int64_t>(generator() % static_cast<uint64_t>(vocab_size));
  return ids;
}

// A model that runs, with what it reads from.
struct RunningModel {
  OpenModel open;
  std::unique_ptr<Decoder> decoder;
  Tensor ids;

  Json repeat(int64_t steps) {
    decoder->restart();
    Stopwatch clock;
    Tensor next = sample(decoder->advance(ids), 0, 0, 0);
    const double prefill_seconds = clock.elapsed_seconds();
    clock.restart();
    for (int64_t i = 0; i < steps; ++i) {
      throw_if_interrupted();
      next = sample(decoder->advance(next), 0, 0, 0);
    }
    return {{"prefill_seconds", prefill_seconds},
            {"decode_seconds", clock.elapsed_seconds()},
            {"peak_rss_bytes", peak_rss_bytes()}};
  }

  // Of one step behind a prompt.
  Json library_calls() {
    decoder->restart();
    const Tensor next = sample(decoder->advance(ids), 0, 0, 0);
    const Stopwatch clock;
    const LibraryCalls calls = count_library_calls([&] { decoder->advance(next); });
    return {{"count", calls.count}, {"share", calls.seconds / clock.elapsed_seconds()}};
  }
};

}  // namespace

BenchSubject machine_subject() {
  constexpr int64_t kRows = 128, kOut = 512, kIn = 2048;
  const auto buffer =
      std::make_shared<std::vector<uint64_t>>(buffer_bytes() / static_cast<int64_t>(sizeof(uint64_t)), 1);
  constexpr ActivationScheme kTokens{.per_token = true};
  const WeightScheme scheme{8, Granularity::kChannel};
  const QuantizedTensor weight =
      round_to_nearest(at::linspace(-1, 1, kOut * kIn).reshape({kOut, kIn}), scheme);
  const std::shared_ptr<const PreparedWeight> prepared =
      find_integer_product(scheme, kTokens)->prepare(weight);
  Activation x;
  x.scheme = kTokens;
  const Tensor values = at::linspace(-1, 1, kRows * kIn).reshape({1, kRows, kIn});
  const Tensor scale = ops::abs_max_rows(values) / static_cast<double>(kTokens.high());
  std::tie(x.codes, x.scale) = ops::quantize_codes(values, scale, kTokens.low(), kTokens.high());
  return {Json::object(), [=] {
            return Json{
                {"read_gb_per_second", read_gb_per_second(*buffer)},
                {"integer_gop_per_second", integer_gop_per_second(*prepared, x, 2.0 * kRows * kOut * kIn)}};
          }};
}

BenchSubject model_subject(const BenchOptions& options, const std::string& path,
                           const CheckpointOptions& checkpoint, const CommonOptions& common) {
  const bool in_int8 = options.compute == kComputeInInt8 && int8_linears(path, checkpoint).changed > 0;
  const Stopwatch clock;
  auto running = std::make_shared<RunningModel>();
  running->open = open_any_model(path, checkpoint, common.torch_device());
  log_warnings(running->open);
  const Model& model = *running->open.model;
  running->decoder = std::make_unique<Decoder>(
      model, options.batch,
      DecoderOptions{.floats = CacheFloats::kFloat16, .compute = {.int8_inputs = in_int8}});
  const double load_ms = clock.elapsed_ms();
  running->ids = random_ids(options, model.vocab_size());
  running->repeat(1);
  const Json about = {{"load_ms", load_ms},
                      {"compute", in_int8 ? kComputeInInt8 : kComputeInFloat},
                      {"context_limit", model.context_limit()},
                      {"parameters", block_parameters(running->open)},
                      {"step_bytes", step_bytes(running->open)},
                      {"library_calls", running->library_calls()}};
  return {about, [running, steps = options.generate] { return running->repeat(steps); }};
}

}  // namespace ptq
