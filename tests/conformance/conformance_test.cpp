// Every method on every architecture at every bit width it supports: runs to the end, gives the same bytes
// again, is read back, and stays finite. A new row in one of the tables is covered without a line here, but
// for the toy model of a new architecture.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>

#include "../base/expect_error.h"
#include "../base/temp_directory.h"
#include "../support/toy_models.h"
#include "ptq/artifact/open_model.h"
#include "ptq/pipeline/run.h"

namespace ptq {
namespace {

using testing::TensorMap;
using testing::ToyMamba;

// Odd sizes: inner sizes with and without a Hadamard matrix of their own, groups longer than a row.
const ToyMamba kMambaSizes[] = {{24, 48, 8, 3, 2}, {48, 96, 8, 3, 3}, {96, 192, 8, 3, 6}, {20, 50, 5, 2, 3}};

struct Toy {
  const char* architecture;
  TensorMap (*tensors)(size_t size);
};

// One row an architecture.
const Toy kToys[] = {
    {"mamba", [](size_t size) { return testing::toy_mamba(kMambaSizes[size]); }},
};

struct Case {
  const ArchitectureEntry* architecture;
  const MethodEntry* method;
  std::string bits;
  size_t size;

  friend void PrintTo(const Case& test, std::ostream* out) {
    *out << test.architecture->name << " " << test.method->name << " " << test.bits << " size " << test.size;
  }
};

bool is_for(const MethodEntry& method, const ArchitectureEntry& architecture) {
  return method.families.empty() || std::find(method.families.begin(), method.families.end(),
                                              architecture.family) != method.families.end();
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const ArchitectureEntry& architecture : architectures()) {
    for (const MethodEntry& method : methods()) {
      if (!is_for(method, architecture)) continue;
      for (const std::string& bits : method.bits) {
        for (size_t size = 0; size < std::size(kMambaSizes); ++size)
          cases.push_back({&architecture, &method, bits, size});
      }
    }
  }
  return cases;
}

std::string case_name(const ::testing::TestParamInfo<Case>& info) {
  return std::string(info.param.architecture->name) + "_" + info.param.method->name + "_" + info.param.bits +
         "_size" + std::to_string(info.param.size);
}

Recipe toy_recipe(const std::string& method, const std::string& bits) {
  RecipeOptions options;
  options.method = method;
  options.bits = bits;
  options.sets = {"samples=8", "seq_len=16"};
  return resolve_recipe(options);
}

// The source model of a case and the places for its outputs.
class Workbench {
 public:
  explicit Workbench(const TensorMap& tensors) {
    testing::write_safetensors(source(), tensors);
    at::Generator generator = at::detail::createCPUGenerator(3);
    const Tensor ids = at::randint(0, 50, {8, 16}, generator, at::TensorOptions().dtype(at::kLong));
    testing::write_safetensors(tokens(), {{"input_ids", ids}});
  }

  std::string source() const { return directory_ / "toy.safetensors"; }
  std::string tokens() const { return directory_ / "tokens.safetensors"; }
  std::string output(const std::string& name) const { return directory_ / name; }
  std::string read(const std::string& name, const std::string& file) const {
    return directory_.read(name + "/" + file);
  }

  Report run(const std::string& name, const Recipe& recipe, bool self_calibrated = false) const {
    RunOptions options;
    options.model_path = source();
    options.output = output(name);
    if (!self_calibrated) options.calibration = {tokens()};
    Progress progress(std::make_shared<StatusLine>(), ProgressStyle::kQuiet);
    return ptq::run(options, recipe, progress);
  }

 private:
  TempDirectory directory_;
};

TensorMap toy_of(const Case& test) {
  for (const Toy& toy : kToys) {
    if (std::string(toy.architecture) == test.architecture->name) return toy.tensors(test.size);
  }
  throw std::runtime_error(std::string("no toy model for the architecture ") + test.architecture->name);
}

Tensor logits_of(const Model& model, const Tensor& ids) {
  Tensor hidden = model.embed(ids);
  for (int64_t i = 0; i < model.num_blocks(); ++i) hidden = model.load_block(i)->forward(hidden);
  return model.logits(hidden);
}

double sqnr_of_logits(const Workbench& bench, const std::string& artifact) {
  const OpenModel floats = open_model(bench.source(), {}, at::kCPU);
  const OpenModel quantized = open_model(bench.output(artifact), {}, at::kCPU);
  EXPECT_FALSE(floats.quantized);
  EXPECT_TRUE(quantized.quantized);
  const Tensor ids = at::arange(40).reshape({2, 20});
  const Tensor logits = logits_of(*quantized.model, ids);
  EXPECT_TRUE(at::isfinite(logits).all().item<bool>());
  return sqnr_db(logits_of(*floats.model, ids), logits);
}

void expect_same_files(const Workbench& bench, const std::string& a, const std::string& b) {
  for (const char* file : {"model.safetensors", "config.json"}) {
    EXPECT_FALSE(bench.read(a, file).empty()) << file;
    EXPECT_TRUE(bench.read(a, file) == bench.read(b, file)) << file << " differs";
  }
}

class EveryMethod : public ::testing::TestWithParam<Case> {};

TEST_P(EveryMethod, IsReadBackWithFiniteLogitsAndPerplexity) {
  const Workbench bench(toy_of(GetParam()));
  const Report report = bench.run("out", toy_recipe(GetParam().method->name, GetParam().bits));
  ASSERT_TRUE(report.quality.has_value());
  EXPECT_TRUE(std::isfinite(report.quality->perplexity_float));
  EXPECT_TRUE(std::isfinite(report.quality->perplexity_quantized));
  EXPECT_GT(report.quality->perplexity_quantized, 1);
  size_t rounded = 0;
  for (const LayerRow& layer : report.layers) {
    if (!layer.weight_sqnr_db) continue;
    ++rounded;
    EXPECT_GT(*layer.weight_sqnr_db, layer.bits == 8 ? 25 : 10) << layer.name;
  }
  EXPECT_GT(rounded, 0U);
  EXPECT_GT(sqnr_of_logits(bench, "out"), GetParam().bits == "w4a16" ? 5 : 15);
}

TEST_P(EveryMethod, GivesTheSameBytesAgainAndWithOneOrTwoThreads) {
  const Workbench bench(toy_of(GetParam()));
  const Recipe recipe = toy_recipe(GetParam().method->name, GetParam().bits);
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  bench.run("first", recipe);
  bench.run("second", recipe);
  at::set_num_threads(2);
  bench.run("two_threads", recipe);
  at::set_num_threads(threads);
  expect_same_files(bench, "first", "second");
  expect_same_files(bench, "first", "two_threads");
}

INSTANTIATE_TEST_SUITE_P(Tables, EveryMethod, ::testing::ValuesIn(all_cases()), case_name);

TEST(EveryArchitecture, HasAToyModelThatItMatches) {
  for (const ArchitectureEntry& architecture : architectures()) {
    const Workbench bench(toy_of({&architecture, nullptr, "", 0}));
    EXPECT_EQ(open_model(bench.source(), {}, at::kCPU).architecture, &architecture);
  }
}

// Toy models are too small to be split between threads; this one is not.
TEST(Run, SampleModelGivesTheSameBytesWithOneOrTwoThreads) {
  const TempDirectory directory;
  const std::string model = PTQ_TEST_DIR "/../data/mamba-1m/model.pt";
  const int threads = at::get_num_threads();
  for (const int count : {1, 2}) {
    at::set_num_threads(count);
    RunOptions options;
    options.model_path = model;
    options.output = directory / std::to_string(count);
    options.calibration = {PTQ_TEST_DIR "/../data/shakespeare-calib.txt"};
    Recipe recipe = toy_recipe("quamba", "w8a8");
    recipe.seq_len = 128;
    Progress progress(std::make_shared<StatusLine>(), ProgressStyle::kQuiet);
    const Report report = run(options, recipe, progress);
    ASSERT_TRUE(report.quality.has_value());
    EXPECT_LT(report.quality->perplexity_quantized, 1.05 * report.quality->perplexity_float);
  }
  at::set_num_threads(threads);
  for (const char* file : {"model.safetensors", "config.json"}) {
    const std::string bytes = directory.read(std::string("1/") + file);
    EXPECT_FALSE(bytes.empty());
    EXPECT_TRUE(bytes == directory.read(std::string("2/") + file)) << file << " differs";
  }
}

TEST(Run, SelfWrittenCalibrationDependsOnNothingButTheSeed) {
  const Workbench bench(testing::toy_mamba({}));
  bench.run("first", toy_recipe("quamba", "w8a8"), /*self_calibrated=*/true);
  bench.run("second", toy_recipe("quamba", "w8a8"), /*self_calibrated=*/true);
  expect_same_files(bench, "first", "second");
  EXPECT_GT(sqnr_of_logits(bench, "first"), 15);
}

TEST(Run, SkippedLayersKeepTheirFloatValues) {
  const TensorMap tensors = testing::toy_mamba({});
  const Workbench bench(tensors);
  Recipe recipe = toy_recipe("rtn", "w8a16");
  recipe.skip = {"*.0.mixer.out_proj"};
  const Report report = bench.run("out", recipe);
  EXPECT_EQ(report.fallbacks.size(), 1U);
  const auto checkpoint = open_checkpoint(bench.output("out"));
  const std::string skipped = "backbone.layers.0.mixer.out_proj.weight";
  EXPECT_TRUE(at::equal(as_tensor(checkpoint->read(skipped)).to(at::kFloat), tensors.at(skipped)));
  EXPECT_EQ(checkpoint->find("backbone.layers.1.mixer.out_proj.weight")->dtype, DType::kI8);
}

TEST(Run, SkipPatternThatMatchesNothingIsAUsageErrorAndLeavesNoOutput) {
  const Workbench bench(testing::toy_mamba({}));
  Recipe recipe = toy_recipe("rtn", "w8a16");
  recipe.skip = {"*.9.mixer.out_proj"};
  EXPECT_ERROR(bench.run("out", recipe), ExitCode::kUsage, "*.9.mixer.out_proj");
  EXPECT_FALSE(std::filesystem::exists(bench.output("out")));
}

TEST(Run, NanInALaterBlockIsAnErrorThatNamesItAndLeavesNoOutput) {
  TensorMap tensors = testing::toy_mamba({});
  tensors["backbone.layers.1.mixer.D"][3] = std::nanf("");
  const Workbench bench(tensors);
  EXPECT_ERROR(bench.run("out", toy_recipe("quamba", "w8a8")), ExitCode::kFailed,
               "backbone.layers.1.mixer.D");
  EXPECT_FALSE(std::filesystem::exists(bench.output("out")));
}

}  // namespace
}  // namespace ptq
