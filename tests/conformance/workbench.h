// Toy models, and runs of the program's library on them.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "../base/temp_directory.h"
#include "../support/toy_llama.h"
#include "../support/toy_mamba2.h"
#include "ptq/artifact/open_model.h"
#include "ptq/codec/quantized_tensor.h"
#include "ptq/pipeline/plan.h"
#include "ptq/pipeline/run.h"

namespace ptq {

using testing::TensorMap;
using testing::ToyLlama;
using testing::ToyMamba;
using testing::ToyMamba2;
using testing::ToyModel;

// Odd sizes: inner sizes with and without a Hadamard matrix of their own, groups longer than a row.
inline const ToyMamba kMambaSizes[] = {
    {24, 48, 8, 3, 2}, {48, 96, 8, 3, 3}, {96, 192, 8, 3, 6}, {20, 50, 5, 2, 3}};
// Groups of one head and of several, heads that no vector fits; both forms of configurations, no gated norm.
inline const ToyMamba2 kMamba2Sizes[] = {
    {},
    {.d_model = 48, .heads = 6, .head_dim = 16, .groups = 3, .d_state = 5, .layers = 2, .biases = true},
    {.d_model = 96, .heads = 4, .head_dim = 48, .groups = 1, .d_state = 16, .state_spaces = true},
    {.d_model = 20,
     .heads = 5,
     .head_dim = 10,
     .groups = 5,
     .d_state = 4,
     .layers = 3,
     .state_spaces = true,
     .norm = false}};
// Shared value heads, heads that no power of two fits, rotations in blocks of 2; biases, norms of heads.
inline const ToyLlama kLlamaSizes[] = {{24, 2, 1, 40},
                                       {48, 4, 2, 96, 2, 50, 16, /*biases=*/true},
                                       {96, 6, 3, 176, 2, 50, 24, false, /*qk_norm=*/true, /*tied=*/false},
                                       {20, 2, 2, 50, 3}};

// A model of tests/golden/models/families.
inline ToyModel family(const std::string& name) {
  const auto checkpoint = open_checkpoint(PTQ_TEST_DIR "/../golden/models/families/" + name);
  ToyModel model{{}, checkpoint->config()};
  for (const TensorInfo& info : checkpoint->tensors())
    model.tensors[info.name] = as_tensor(checkpoint->read(info.name)).clone();
  return model;
}

struct Toy {
  const char* architecture;
  ToyModel (*make)(size_t size);
  size_t sizes = 4;    // how many there are
  double lost_db = 0;  // what its logits may lose more than those of the first three
  // The same of its weights: the code of a channel that is always 0, as behind a relu, may be 0.
  double weights_lost_db = 0;
};

// The golden models have weights of no particular scale: errors grow from block to block.
inline constexpr double kGoldenLostDb = 15;

// One row an architecture.
inline const Toy kToys[] = {
    {"mamba", [](size_t size) { return ToyModel{testing::toy_mamba(kMambaSizes[size]), {}}; }},
    {"mamba2", [](size_t size) { return testing::toy_mamba2(kMamba2Sizes[size]); }},
    {"llama", [](size_t size) { return testing::toy_llama(kLlamaSizes[size]); }},
    {"falcon-mamba", [](size_t) { return family("falcon-mamba"); }, 1, kGoldenLostDb},
    {"bamba", [](size_t) { return family("bamba"); }, 1, kGoldenLostDb},
    {"granite4", [](size_t) { return family("granite4"); }, 1, kGoldenLostDb},
    {"falcon-h1", [](size_t size) { return family(size == 0 ? "falcon-h1" : "falcon-h1-norm"); }, 2,
     kGoldenLostDb},
    {"nemotron-h", [](size_t) { return family("nemotron-h"); }, 1, kGoldenLostDb},
    {"jamba", [](size_t) { return family("jamba"); }, 1, kGoldenLostDb},
    {"mixtral", [](size_t) { return family("mixtral"); }, 1, kGoldenLostDb},
    {"qwen2-moe", [](size_t) { return family("qwen2-moe"); }, 1, kGoldenLostDb},
    {"qwen3-moe", [](size_t) { return family("qwen3-moe"); }, 1, kGoldenLostDb},
    {"olmoe", [](size_t) { return family("olmoe"); }, 1, kGoldenLostDb},
    {"gemma2", [](size_t) { return family("gemma2"); }, 1, kGoldenLostDb},
    {"gemma3", [](size_t) { return family("gemma3"); }, 1, kGoldenLostDb},
    {"granite", [](size_t) { return family("granite"); }, 1, kGoldenLostDb},
    {"olmo2", [](size_t) { return family("olmo2"); }, 1, kGoldenLostDb},
    {"phi3", [](size_t) { return family("phi3-short"); }, 1, kGoldenLostDb},
    {"stablelm", [](size_t) { return family("stablelm"); }, 1, kGoldenLostDb},
    {"gpt-neox", [](size_t) { return family("gpt-neox"); }, 1, kGoldenLostDb},
    {"opt", [](size_t) { return family("opt"); }, 1, kGoldenLostDb, 13},
};

inline const Toy& toy_for(const std::string& architecture) {
  for (const Toy& toy : kToys) {
    if (architecture == toy.architecture) return toy;
  }
  throw std::runtime_error("no toy model for the architecture " + architecture + ": it wants a row in kToys");
}

inline constexpr int64_t kRows = 8, kLength = 16;  // of calibration tokens
// Of corrections: a small part of a toy's matrices, as a real rank is of a real one's.
inline constexpr int64_t kToyRank = 3;

inline Recipe toy_recipe(const std::string& method, const std::string& bits) {
  RecipeOptions options;
  options.method = method;
  (find_method(method).by_base ? options.base : options.bits) = bits;
  options.sets = {"samples=" + std::to_string(kRows), "seq_len=" + std::to_string(kLength)};
  if (find_method(method).by_base) options.rank = kToyRank;
  return resolve_recipe(options);
}

// The source model of a case and the places for its outputs.
class Workbench {
 public:
  explicit Workbench(const ToyModel& toy) {
    std::filesystem::create_directory(directory_ / "toy");
    testing::write_safetensors(source(), toy.tensors);
    if (!toy.config.is_null()) directory_.write("toy/config.json", python_json_text(toy.config, 1));
    at::Generator generator = at::detail::createCPUGenerator(3);
    ids_ = at::randint(0, 50, {kRows, kLength}, generator, at::TensorOptions().dtype(at::kLong));
    testing::write_safetensors(tokens(), {{"input_ids", ids_}});
  }

  std::string source() const { return directory_ / "toy/model.safetensors"; }
  std::string tokens() const { return directory_ / "tokens.safetensors"; }
  const Tensor& ids() const { return ids_; }
  std::string output(const std::string& name) const { return directory_ / name; }
  void write(const std::string& name, const std::string& file, const std::string& text) const {
    directory_.write(name + "/" + file, text);
  }
  std::string read(const std::string& name, const std::string& file) const {
    return directory_.read(name + "/" + file);
  }

  Report run(const std::string& name, const Recipe& recipe, bool self_calibrated = false) const {
    Progress progress(std::make_shared<StatusLine>(), ProgressStyle::kQuiet);
    return ptq::run(options(name, self_calibrated), recipe, progress);
  }
  Plan plan(const std::string& name, const Recipe& recipe) const {
    Progress progress(std::make_shared<StatusLine>(), ProgressStyle::kQuiet);
    return plan_run(options(name, /*self_calibrated=*/false), recipe, progress);
  }

 private:
  RunOptions options(const std::string& name, bool self_calibrated) const {
    RunOptions options;
    options.model_path = source();
    options.output = output(name);
    if (!self_calibrated) options.calibration = {tokens()};
    options.program = {{"name", "quantize"}, {"version", "0"}, {"git", ""},
                       {"torch", ""},        {"isa", ""},      {"threads", 1}};
    return options;
  }

  TempDirectory directory_;
  Tensor ids_;  // [kRows, kLength]
};

inline Tensor logits_of(const Model& model, const Tensor& ids) {
  Tensor hidden = model.embed(ids);
  for (int64_t i = 0; i < model.num_blocks(); ++i) hidden = model.load_block(i)->forward(hidden);
  return model.logits(hidden);
}

inline double sqnr_of_logits(const Workbench& bench, const std::string& artifact) {
  const OpenModel floats = open_model(bench.source(), {}, at::kCPU);
  const OpenModel quantized = open_model(bench.output(artifact), {}, at::kCPU);
  EXPECT_FALSE(floats.quantized);
  EXPECT_TRUE(quantized.quantized);
  const Tensor ids = at::arange(40).reshape({2, 20});
  const Tensor logits = logits_of(*quantized.model, ids);
  EXPECT_TRUE(at::isfinite(logits).all().item<bool>());
  return sqnr_db(logits_of(*floats.model, ids), logits);
}

}  // namespace ptq
