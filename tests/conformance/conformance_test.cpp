// Every method on every architecture at every bit width it supports: runs to the end, rounds what it was
// asked to, gives the same bytes again, is read back, and stays near the float model. A new row in one of the
// tables is covered without a line here, but for the toy model of a new architecture and the floor of new
// bits.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "../base/expect_error.h"
#include "cases.h"
#include "ptq/engine/evaluate.h"
#include "ptq/step/step.h"
#include "ptq/verify/verify.h"

namespace ptq {
namespace {

// What random weights must keep, a few dB below the least of all methods, architectures and sizes. Weights
// rounded column by column lose most; small models lose most in their logits.
struct Floor {
  const char* bits;
  int weight_bits, activation_bits;  // 16: float
  double weights_db, logits_db;
};

const Floor kFloors[] = {
    {"w8a16", 8, 16, 30, 30},
    {"w8a8", 8, 8, 30, 16},
    {"w6a6", 6, 6, 21, 14},
    {"w4a16", 4, 16, 9, 6},
    {"w4a8", 4, 8, 9, 8},
    {"w4a4", 4, 4, 9, 4},
    // Bases: their weights alone, and logits with a correction of rank kToyRank.
    {"mxint8", 8, 16, 30, 25},
    {"mxint4", 4, 16, 12, 6},
    {"mxint3", 3, 16, 6, 2},
    {"mxint2", 2, 16, 1, 0},
    {"int8", 8, 16, 30, 25},
    {"int4-g128", 4, 16, 9, 6},
    {"int4-g32-asym", 4, 16, 12, 6},
    {"int3-g64", 3, 16, 3, 2},
    {"nf4", 4, 16, 12, 6},
    {"gptq:int4-g128", 4, 16, 9, 6},
};

const Floor& floor_of(const std::string& bits) {
  for (const Floor& floor : kFloors) {
    if (bits == floor.bits) return floor;
  }
  throw std::runtime_error("no floor for " + bits);
}

void expect_same_files(const Workbench& bench, const std::string& a, const std::string& b) {
  for (const char* file : {"model.safetensors", "config.json"}) {
    EXPECT_FALSE(bench.read(a, file).empty()) << file;
    EXPECT_TRUE(bench.read(a, file) == bench.read(b, file)) << file << " differs";
  }
}

bool is_decision(const Report& report, const std::string& name) {
  return std::any_of(report.decisions.begin(), report.decisions.end(),
                     [&](const Remark& row) { return row.where == name; });
}

// Whether a site is one of a state-space mixer.
bool in_mixer(const std::string& site) {
  for (const char* name : {".in_proj.input", ".conv.input", ".z", ".dt_proj.input", ".ssm.x", ".ssm.dt",
                           ".ssm.B", ".ssm.C", ".ssm.output"}) {
    if (site.ends_with(name)) return true;
  }
  return false;
}

// What a correction of rank kToyRank takes at least off the error of the logits, and the most that it leaves
// of the error of a layer's outputs.
constexpr double kCorrectionDb = 0.5;
constexpr double kRemaining = 0.95;

// What a rounded weight may move away from the weight to leave room for its correction.
constexpr double kTurnsDb = 3;

// Linears are in the bits asked for, or said to be float; so are the activations they read.
void expect_bits(const Report& report, const Floor& floor, double lost_db) {
  size_t rounded = 0;
  for (const LayerRow& layer : report.layers) {
    const bool linear = layer.role == role_name(Role::kLinear);
    EXPECT_TRUE(!linear || layer.weight_sqnr_db || is_decision(report, layer.name)) << layer.name;
    if (!layer.weight_sqnr_db) continue;
    // In turns with a correction, what is rounded is the weight less its correction: further from the weight.
    const bool in_turns = layer.correction && layer.correction->rounds > 1;
    EXPECT_GT(*layer.weight_sqnr_db, floor.weights_db - lost_db - (in_turns ? kTurnsDb : 0)) << layer.name;
    if (!linear) continue;
    ++rounded;
    // What bears no fewer bits has 8, and the report says so.
    EXPECT_EQ(layer.bits, is_decision(report, layer.name) ? 8 : floor.weight_bits) << layer.name;
  }
  EXPECT_GT(rounded, 0U);
  EXPECT_FALSE(report.sites.empty());
  for (const SiteRow& site : report.sites) {
    const bool rounds = site.quantizer != "none";
    const bool may = floor.activation_bits < 16, must = may && site.kind == "linear_input";
    EXPECT_TRUE(rounds ? may : !must) << site.name;
    EXPECT_EQ(site.bits.value_or(floor.activation_bits), floor.activation_bits) << site.name;
  }
}

// A correction of a small rank takes something off the error of each layer, and off that of the logits. The
// base alone is held to its floor.
void expect_correction(const Workbench& bench, Recipe recipe, const Report& report, const Floor& floor,
                       const Toy& toy) {
  std::erase_if(recipe.steps, [](const StepConfig& step) {
    return find_step(step.name, "").kind == StepKind::kCorrection;
  });
  expect_bits(bench.run("base", recipe), floor, toy.weights_lost_db);
  if (toy.lost_db == 0) {
    EXPECT_GT(sqnr_of_logits(bench, "out"), sqnr_of_logits(bench, "base") + kCorrectionDb);
  }
  size_t corrected = 0;
  for (const LayerRow& layer : report.layers) {
    if (!layer.correction) continue;
    ++corrected;
    const int64_t most = std::min(layer.shape[0], layer.shape[1]);  // dt_proj is narrower than the rank
    EXPECT_EQ(layer.correction->rank, std::min<int64_t>(kToyRank, most)) << layer.name;
    EXPECT_LT(layer.correction->remaining(), kRemaining) << layer.name;
  }
  EXPECT_GT(corrected, 0U);
}

// What the report says of quality is what the artifact gives whoever reads it.
void expect_quality(const Workbench& bench, const std::string& name, const Quality& reported) {
  const OpenModel floats = open_model(bench.source(), {}, at::kCPU);
  const OpenModel artifact = open_model(bench.output(name), {}, at::kCPU);
  const int64_t kept = reported.tokens / (kLength - 1);  // the last rows
  const Tensor windows = bench.ids().slice(0, kRows - kept);
  const LossSums sums = evaluate(*artifact.model, windows, floats.model.get(), [] {});
  EXPECT_EQ(sums.tokens, reported.tokens);
  EXPECT_NEAR(sums.perplexity() / reported.perplexity_quantized, 1, 1e-6);
  const double tolerance = 1e-4;  // of a run, the float blocks have been through its rewrites
  EXPECT_NEAR(sums.reference_perplexity() / reported.perplexity_float, 1, tolerance);
  EXPECT_NEAR(sums.kl / static_cast<double>(sums.tokens), reported.mean_kl, tolerance);
  EXPECT_GT(reported.perplexity_quantized, 1);
  EXPECT_GT(reported.mean_kl, -tolerance);
  EXPECT_TRUE(reported.top1_agreement >= 0 && reported.top1_agreement <= 1);
  const OpenModel again = open_model(bench.output(name), {}, at::kCPU);
  EXPECT_TRUE(at::equal(logits_of(*artifact.model, windows), logits_of(*again.model, windows)));
}

class EveryMethod : public ::testing::TestWithParam<Case> {};

TEST_P(EveryMethod, RoundsWhatItWasAskedToAndIsReadBackAsReported) {
  const Workbench bench(toy_of(GetParam()));
  const Recipe recipe = toy_recipe(GetParam().method->name, GetParam().bits);
  const Report report = bench.run("out", recipe);
  const Floor& floor = floor_of(GetParam().bits);
  const Toy& toy = toy_for(GetParam().architecture->name);
  expect_bits(report, floor, toy.weights_lost_db);
  EXPECT_GT(sqnr_of_logits(bench, "out"), floor.logits_db - toy.lost_db);
  if (GetParam().method->by_base) expect_correction(bench, recipe, report, floor, toy);
  ASSERT_TRUE(report.quality.has_value());
  expect_quality(bench, "out", *report.quality);
}

class EveryMethodTwice : public ::testing::TestWithParam<Case> {};

TEST_P(EveryMethodTwice, GivesTheSameBytesAgainAndWithOneOrTwoThreads) {
  const Workbench bench(toy_of(GetParam()));
  const Recipe recipe = toy_recipe(GetParam().method->name, GetParam().bits);
  const int threads = at::get_num_threads();
  for (const int count : {1, 2}) {
    at::set_num_threads(count);
    bench.run(std::to_string(count), recipe);
  }
  at::set_num_threads(threads);
  expect_same_files(bench, "1", "2");
}

INSTANTIATE_TEST_SUITE_P(Tables, EveryMethod,
                         ::testing::ValuesIn(all_cases({0, 1, 2, 3}, OfGolden::kEveryWidth)), case_name);
INSTANTIATE_TEST_SUITE_P(Tables, EveryMethodTwice, ::testing::ValuesIn(all_cases({1, 3})), case_name);

TEST(EveryArchitecture, HasAToyModelThatItMatches) {
  for (const ArchitectureEntry& architecture : architectures()) {
    const Workbench bench(toy_of({&architecture, nullptr, "", 0}));
    EXPECT_EQ(open_model(bench.source(), {}, at::kCPU).architecture, &architecture);
  }
}

struct Sample {
  const char* model;  // in tests/data
  const char* method;
  const char* bits;
  double perplexity;  // at most, relative to the float model's
};

const Sample kSamples[] = {{"mamba-1m/model.pt", "quamba", "w8a8", 1.05},
                           {"llama-1m", "duquant", "w4a4", 1.2}};

class SampleModel : public ::testing::TestWithParam<Sample> {};

// Toy models are too small to be split between threads; these are not.
TEST_P(SampleModel, GivesTheSameBytesWithOneOrTwoThreads) {
  const TempDirectory directory;
  const int threads = at::get_num_threads();
  for (const int count : {1, 2}) {
    at::set_num_threads(count);
    RunOptions options;
    options.model_path = std::string(PTQ_TEST_DIR "/../data/") + GetParam().model;
    options.output = directory / std::to_string(count);
    options.calibration = {PTQ_TEST_DIR "/../data/shakespeare-calib.txt"};
    Recipe recipe = toy_recipe(GetParam().method, GetParam().bits);
    recipe.seq_len = 128;
    Progress progress(std::make_shared<StatusLine>(), ProgressStyle::kQuiet);
    const Report report = run(options, recipe, progress);
    ASSERT_TRUE(report.quality.has_value());
    const double ratio = report.quality->perplexity_quantized / report.quality->perplexity_float;
    EXPECT_LT(ratio, GetParam().perplexity);
  }
  at::set_num_threads(threads);
  for (const char* file : {"model.safetensors", "config.json"}) {
    const std::string bytes = directory.read(std::string("1/") + file);
    EXPECT_FALSE(bytes.empty());
    EXPECT_TRUE(bytes == directory.read(std::string("2/") + file)) << file << " differs";
  }
}

INSTANTIATE_TEST_SUITE_P(Samples, SampleModel, ::testing::ValuesIn(kSamples), [](const auto& sample) {
  return std::string(sample.param.method) + "_" + std::to_string(sample.index);
});

TEST(Run, SelfWrittenCalibrationDependsOnNothingButTheSeed) {
  const Workbench bench({testing::toy_mamba({}), {}});
  bench.run("first", toy_recipe("quamba", "w8a8"), /*self_calibrated=*/true);
  bench.run("second", toy_recipe("quamba", "w8a8"), /*self_calibrated=*/true);
  expect_same_files(bench, "first", "second");
  EXPECT_GT(sqnr_of_logits(bench, "first"), 15);
}

// Of its inputs, per token; queries, keys and values stay in float, and so do routers.
TEST(Run, QuambaRoundsTheRestOfAHybridPerToken) {
  for (const char* name : {"jamba", "falcon-h1", "nemotron-h"}) {
    const Workbench bench(family(name));
    const Report report = bench.run("out", toy_recipe("quamba", "w8a8"));
    std::set<std::string> kinds;
    for (const SiteRow& site : report.sites) {
      const bool ssm = in_mixer(site.name);
      EXPECT_EQ(site.quantizer, ssm                           ? "static"
                                : site.kind == "linear_input" ? "dynamic"
                                                              : "none")
          << site.name;
      kinds.insert(site.quantizer + site.kind);
    }
    EXPECT_TRUE(kinds.contains("dynamiclinear_input") && kinds.contains("noneattention")) << name;
    for (const LayerRow& layer : report.layers) {
      if (layer.role != role_name(Role::kLinear) || is_decision(report, layer.name)) continue;
      EXPECT_EQ(layer.granularity, "channel") << layer.name;
    }
  }
}

TEST(Run, QuambaLeavesTheRestOfAHybridInFloatIfAsked) {
  for (const char* bits : {"w8a8", "w4a8"}) {
    const Workbench bench(family("jamba"));
    RecipeOptions options;
    options.method = "quamba";
    options.bits = bits;
    options.sets = {"quamba.rest=float", "samples=8", "seq_len=16"};
    const Recipe recipe = resolve_recipe(options);
    const Report report = bench.run("out", recipe);
    for (const SiteRow& site : report.sites)
      EXPECT_EQ(site.quantizer, in_mixer(site.name) ? "static" : "none") << site.name;
    size_t floats = 0;
    for (const LayerRow& layer : report.layers) {
      if (layer.role != role_name(Role::kLinear)) continue;
      const bool ssm = layer.name.find(".mamba.") != std::string::npos;
      EXPECT_EQ(layer.weight_sqnr_db.has_value(), ssm) << layer.name;
      EXPECT_TRUE(ssm || is_decision(report, layer.name)) << layer.name;
      floats += ssm ? 0 : 1;
    }
    EXPECT_GT(floats, 0U);
    const Verification found = verify_artifact(bench.output("out"), bench.source(), {});
    for (const Finding& finding : found.findings) ADD_FAILURE() << finding.where << ": " << finding.what;
  }
}

// At the sites of both, where no linear reads them, lies a transform.
TEST(Run, TurnedBAndCOfMamba2AreReadBack) {
  const Workbench bench(testing::toy_mamba2(kMamba2Sizes[1]));
  for (const char* activations : {"static", "dynamic"}) {
    Recipe recipe = toy_recipe("quamba", "w8a8");
    std::erase_if(recipe.steps, [](const StepConfig& step) { return step.name == "activations"; });
    recipe.steps.push_back({"activations", {{"scales", activations}, {"sites", "all"}}});
    recipe.steps.insert(recipe.steps.begin(), {"qk_hadamard", Json::object()});
    const Report report = bench.run(activations, recipe);
    for (const SiteRow& site : report.sites) {
      const bool turned = site.name.ends_with("ssm.B") || site.name.ends_with("ssm.C");
      EXPECT_EQ(!site.transform.empty(), turned || site.name.ends_with("ssm.output")) << site.name;
    }
    EXPECT_GT(sqnr_of_logits(bench, activations), floor_of("w8a8").logits_db);
    ASSERT_TRUE(report.quality.has_value());
    expect_quality(bench, activations, *report.quality);
    const Verification found = verify_artifact(bench.output(activations), bench.source(), {});
    for (const Finding& finding : found.findings) ADD_FAILURE() << finding.where << ": " << finding.what;
  }
}

TEST(Run, SkippedLayersKeepTheirFloatValues) {
  const TensorMap tensors = testing::toy_mamba({});
  const Workbench bench({tensors, {}});
  Recipe recipe = toy_recipe("rtn", "w8a16");
  recipe.skip = {"*.0.mixer.out_proj"};
  const Report report = bench.run("out", recipe);
  EXPECT_TRUE(report.fallbacks.empty());
  ASSERT_EQ(report.decisions.size(), 1U);
  EXPECT_EQ(report.decisions[0].where, "backbone.layers.0.mixer.out_proj");
  const auto checkpoint = open_checkpoint(bench.output("out"));
  const std::string skipped = "backbone.layers.0.mixer.out_proj.weight";
  EXPECT_TRUE(at::equal(as_tensor(checkpoint->read(skipped)).to(at::kFloat), tensors.at(skipped)));
  EXPECT_EQ(checkpoint->find("backbone.layers.1.mixer.out_proj.weight")->dtype, DType::kI8);
}

TEST(Run, SkipPatternThatMatchesNothingIsAUsageErrorAndLeavesNoOutput) {
  const Workbench bench({testing::toy_mamba({}), {}});
  Recipe recipe = toy_recipe("rtn", "w8a16");
  recipe.skip = {"*.9.mixer.out_proj"};
  EXPECT_ERROR(bench.run("out", recipe), ExitCode::kUsage, "*.9.mixer.out_proj");
  EXPECT_FALSE(std::filesystem::exists(bench.output("out")));
}

TEST(Run, NanInALaterBlockIsAnErrorThatNamesItAndLeavesNoOutput) {
  TensorMap tensors = testing::toy_mamba({});
  tensors["backbone.layers.1.mixer.D"][3] = std::nanf("");
  const Workbench bench({tensors, {}});
  EXPECT_ERROR(bench.run("out", toy_recipe("quamba", "w8a8")), ExitCode::kFailed,
               "backbone.layers.1.mixer.D");
  EXPECT_FALSE(std::filesystem::exists(bench.output("out")));
}

}  // namespace
}  // namespace ptq
