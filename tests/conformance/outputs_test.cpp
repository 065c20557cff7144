// What a run writes is what plan says it will write, what verify accepts, and what every format exports or
// says why it does not: every method at every bit width on both sample models.
#include <gtest/gtest.h>

#include <algorithm>

#include "cases.h"
#include "ptq/export/formats.h"
#include "ptq/verify/verify.h"
#include "samples.h"

namespace ptq {
namespace {

class Output : public ::testing::TestWithParam<SampleRun> {};

// A step whose plan() is not what its apply() does fails here.
void expect_planned(const Plan& plan, const Report& report) {
  EXPECT_EQ(plan.output_bytes, report.output_bytes);
  EXPECT_EQ(plan.bits_per_weight, report.bits_per_weight);
  EXPECT_FALSE(plan.at_most);
  for (const auto& [file, bytes] : report.output_files) {
    ASSERT_TRUE(plan.files.contains(file)) << file;
    EXPECT_EQ(plan.files.at(file), bytes) << file;
  }
  EXPECT_EQ(plan.files.size(), report.output_files.size() + 2);  // report.json, SHA256SUMS
  EXPECT_EQ(plan.calibration, report.calibration);
  // Some things are known only when values are.
  for (const std::string& warning : plan.warnings) {
    const auto& said = report.warnings;
    EXPECT_NE(std::find(said.begin(), said.end(), warning), said.end()) << warning;
  }
  EXPECT_EQ(to_json(plan.fallbacks), to_json(report.fallbacks));
  EXPECT_EQ(to_json(plan.decisions), to_json(report.decisions));
}

void expect_same_rows(const Plan& plan, const Report& report) {
  for (const LayerRow& layer : report.layers) {
    const auto row = std::find_if(plan.tensors.begin(), plan.tensors.end(), [&](const PlanRow& candidate) {
      return candidate.name == layer.name || candidate.name == layer.name + ".weight";
    });
    ASSERT_NE(row, plan.tensors.end()) << layer.name;
    EXPECT_EQ(row->bits, layer.bits) << layer.name;
    EXPECT_EQ(row->granularity, layer.granularity) << layer.name;
    EXPECT_EQ(row->group, layer.group) << layer.name;
    EXPECT_EQ(row->shape, layer.shape) << layer.name;
    EXPECT_EQ(row->role, layer.role) << layer.name;
  }
  ASSERT_EQ(plan.sites.size(), report.sites.size());
  for (size_t i = 0; i < plan.sites.size(); ++i) {
    EXPECT_EQ(plan.sites[i].name, report.sites[i].name);
    EXPECT_EQ(plan.sites[i].quantizer, report.sites[i].quantizer) << report.sites[i].name;
    EXPECT_EQ(plan.sites[i].bits, report.sites[i].bits) << report.sites[i].name;
    EXPECT_EQ(plan.sites[i].transform, report.sites[i].transform) << report.sites[i].name;
  }
}

void expect_verified(const std::string& output, const std::string& source, const Report& report) {
  const Verification found = verify_artifact(output, source, {});
  for (const Finding& finding : found.findings) ADD_FAILURE() << finding.where << ": " << finding.what;
  EXPECT_TRUE(found.compared);
  EXPECT_EQ(found.within_half_step + found.by_sqnr, found.weights_in_codes);
  EXPECT_EQ(found.equal, found.weights_in_float);
  EXPECT_EQ(found.files, static_cast<int64_t>(report.output_files.size()) + 2);
}

// Schemes and sites tell whether a format holds an output; then it is written, and opened where it can be.
void expect_exports(const std::string& output, const TempDirectory& directory) {
  const at::InferenceMode inference;
  const OpenModel whole = open_model(output, {}, at::kCPU), shapes = open_model(output, {}, at::kMeta);
  for (const FormatEntry& format : formats()) {
    SCOPED_TRACE(format.name);
    const std::string path = directory / (std::string("exported") + format.suffix);
    const ExportTarget target{path, export_options(format, {})};
    const std::string reason = format.why_not(shapes, target);
    EXPECT_EQ(reason, format.why_not(whole, target));
    if (!reason.empty()) continue;
    EXPECT_TRUE(format.write(whole, target).json.is_object());
    if (format.open == nullptr) continue;
    // Of a toy whose rows fill no block of a GGUF all is stored as floats.
    const bool quantized = open_any_model(path, {}, at::kCPU).quantized;
    EXPECT_TRUE(quantized || format.name == std::string("gguf"));
  }
}

TEST_P(Output, IsWhatThePlanSaysAndVerifiesAgainstItsSource) {
  const TempDirectory directory;
  const std::string output = directory / "out";
  const Plan plan = GetParam().plan(output);
  EXPECT_TRUE(directory.list().empty());
  const Report report = GetParam().run(output);
  expect_planned(plan, report);
  expect_same_rows(plan, report);
  EXPECT_EQ(plan.files.at("SHA256SUMS"), static_cast<int64_t>(directory.read("out/SHA256SUMS").size()));

  expect_verified(output, GetParam().model_path(), report);
  expect_exports(output, directory);
}

INSTANTIATE_TEST_SUITE_P(Samples, Output, ::testing::ValuesIn(sample_runs()),
                         [](const auto& sample) { return sample.param.name(); });

// Of the architectures that have no sample model.
std::vector<Case> toy_cases() {
  std::vector<Case> cases = all_cases({1, 3});
  std::erase_if(cases, [](const Case& test) {
    const std::string name = test.architecture->name;
    return name == "mamba" || name == "llama";
  });
  return cases;
}

class ToyOutput : public ::testing::TestWithParam<Case> {};

TEST_P(ToyOutput, IsWhatThePlanSaysAndVerifiesAgainstItsSource) {
  const Workbench bench(toy_of(GetParam()));
  const Recipe recipe = toy_recipe(GetParam().method->name, GetParam().bits);
  const Plan plan = bench.plan("out", recipe);
  const Report report = bench.run("out", recipe);
  expect_planned(plan, report);
  expect_same_rows(plan, report);
  expect_verified(bench.output("out"), bench.source(), report);
  const TempDirectory directory;
  expect_exports(bench.output("out"), directory);
}

INSTANTIATE_TEST_SUITE_P(Tables, ToyOutput, ::testing::ValuesIn(toy_cases()), case_name);

TEST(Plan, ChoiceByValuesIsAnUpperBound) {
  const TempDirectory directory;
  const SampleRun sample{
      "llama-1m", "transformer", "duquant", "w4a4", {"duquant.rotation=auto", "duquant.steps=4"}};
  const Plan plan = sample.plan(directory / "out");
  EXPECT_TRUE(plan.at_most);
  EXPECT_GE(plan.output_bytes, sample.run(directory / "out").output_bytes);
}

}  // namespace
}  // namespace ptq
