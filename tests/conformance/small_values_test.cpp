// Powers of two change no digit of a number: a layer whose weights or inputs are tiny or huge loses what the
// same layer loses at ordinary size.
#include <algorithm>
#include <cmath>

#include "ptq/verify/verify.h"
#include "workbench.h"

namespace ptq {
namespace {

struct Sizes {
  const char* architecture;
  const char* method;
  const char* bits;
};

std::string last_linear(const std::string& architecture) {
  return architecture == "mamba" ? "backbone.layers.0.mixer.out_proj" : "model.layers.0.mlp.down_proj";
}

const LayerRow& row_of(const Report& report, const std::string& name) {
  for (const LayerRow& row : report.layers) {
    if (row.name == name) return row;
  }
  throw std::runtime_error("no row of " + name);
}

std::string name_of(const ::testing::TestParamInfo<Sizes>& info) {
  std::string name = std::string(info.param.architecture) + "_" + info.param.method + "_" + info.param.bits;
  std::replace_if(name.begin(), name.end(), [](char c) { return std::isalnum(c) == 0; }, '_');
  return name;
}

class ScaledWeights : public ::testing::TestWithParam<Sizes> {};

TEST_P(ScaledWeights, LoseNoMoreThanOrdinaryOnes) {
  const auto [architecture, method, bits] = GetParam();
  const ToyModel toy = toy_for(architecture).make(1);
  const std::string name = last_linear(architecture);
  const Recipe recipe = toy_recipe(method, bits);
  const Report ordinary = Workbench(toy).run("out", recipe);
  const double expected = row_of(ordinary, name).weight_sqnr_db.value();
  for (const int exponent : {-14, -20, -100, 30}) {
    ToyModel scaled = toy;
    scaled.tensors[name + ".weight"] = toy.tensors.at(name + ".weight") * std::ldexp(1.0, exponent);
    const Workbench bench(scaled);
    const Report report = bench.run("out", recipe);
    const LayerRow& row = row_of(report, name);
    ASSERT_TRUE(row.weight_sqnr_db && std::isfinite(*row.weight_sqnr_db)) << "2^" << exponent;
    // float32 scales where float16 holds none are a little better; GPTQ and turns of rounding choose anew.
    EXPECT_NEAR(*row.weight_sqnr_db, expected, 0.75) << "2^" << exponent;
    const std::vector<Finding> findings = verify_artifact(bench.output("out"), bench.source(), {}).findings;
    for (const Finding& finding : findings) ADD_FAILURE() << finding.where << ": " << finding.what;
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, ScaledWeights,
                         ::testing::Values(Sizes{"llama", "rtn", "w8a16"}, Sizes{"llama", "rtn", "w4a16"},
                                           Sizes{"llama", "rtn", "w4a8"}, Sizes{"llama", "gptq", "w4a16"},
                                           Sizes{"llama", "gptq", "w8a16"}, Sizes{"llama", "qera", "mxint4"},
                                           Sizes{"llama", "qera", "nf4"},
                                           Sizes{"llama", "qera", "int4-g32-asym"},
                                           Sizes{"mamba", "rtn", "w8a8"}, Sizes{"mamba", "quamba", "w8a8"}),
                         name_of);

TEST(ScaledWeights, GroupsWhoseScalesFloat16DoesNotHoldHaveFloat32OnesAndAreListed) {
  ToyModel toy = toy_for("llama").make(1);
  toy.tensors["model.layers.0.mlp.down_proj.weight"].mul_(0x1p-20);
  toy.tensors["model.layers.1.mlp.down_proj.weight"].mul_(0x1p30);
  const Workbench bench(toy);
  const Report report = bench.run("out", toy_recipe("rtn", "w4a16"));
  ASSERT_EQ(report.fallbacks.size(), 2U);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(report.fallbacks[i].where, "model.layers." + std::to_string(i) + ".mlp.down_proj");
    EXPECT_EQ(report.fallbacks[i].what, "scales of groups in float32");
  }
  const auto checkpoint = open_checkpoint(bench.output("out"));
  EXPECT_EQ(checkpoint->find("model.layers.0.mlp.down_proj.weight_scale")->dtype, DType::kF32);
  EXPECT_EQ(checkpoint->find("model.layers.0.mlp.up_proj.weight_scale")->dtype, DType::kF16);
}

class ScaledActivations : public ::testing::TestWithParam<Sizes> {};

// The norm makes the input of a site small, the linears that read it make up for it.
TEST_P(ScaledActivations, LoseNoMoreThanOrdinaryOnes) {
  const auto [architecture, method, bits] = GetParam();
  const ToyModel toy = toy_for(architecture).make(1);
  const Recipe recipe = toy_recipe(method, bits);
  const Workbench ordinary(toy);
  ordinary.run("out", recipe);
  const double expected = sqnr_of_logits(ordinary, "out");
  for (const int exponent : {-20, -60, 40}) {
    ToyModel scaled = toy;
    const bool mamba = std::string(architecture) == "mamba";
    const std::string norm = mamba ? "backbone.layers.0.norm" : "model.layers.0.post_attention_layernorm";
    scaled.tensors[norm + ".weight"] = toy.tensors.at(norm + ".weight") * std::ldexp(1.0, exponent);
    const std::vector<std::string> readers =
        mamba ? std::vector<std::string>{"backbone.layers.0.mixer.in_proj"}
              : std::vector<std::string>{"model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj"};
    for (const std::string& reader : readers)
      scaled.tensors[reader + ".weight"] = toy.tensors.at(reader + ".weight") * std::ldexp(1.0, -exponent);
    const Workbench bench(scaled);
    bench.run("out", recipe);
    EXPECT_NEAR(sqnr_of_logits(bench, "out"), expected, 0.75) << "2^" << exponent;
  }
}

INSTANTIATE_TEST_SUITE_P(Quantizers, ScaledActivations,
                         ::testing::Values(Sizes{"llama", "rtn", "w8a8"}, Sizes{"llama", "rtn", "w4a8"},
                                           Sizes{"llama", "rtn", "w4a4"}, Sizes{"mamba", "rtn", "w6a6"},
                                           Sizes{"mamba", "quamba", "w8a8"}),
                         name_of);

// In float32, squares of 2^-100 are 0: reports of earlier versions have no number there.
TEST(ReportOfSmallWeights, NullIsNoDifferenceToTheSource) {
  ToyModel toy = toy_for("llama").make(1);
  toy.tensors["model.layers.1.mlp.up_proj.weight"].mul_(0x1p-100);
  const Workbench bench(toy);
  bench.run("out", toy_recipe("rtn", "w8a16"));
  ASSERT_TRUE(verify_artifact(bench.output("out"), bench.source(), {}).findings.empty());
  Json report = parse_json(bench.read("out", "report.json"), "report");
  const auto verify_with_null = [&](const std::string& layer) {
    Json changed = report;
    for (Json& row : changed["layers"]) {
      if (row["name"] == layer) row["weight_sqnr_db"] = nullptr;
    }
    bench.write("out", "report.json", changed.dump(1) + "\n");
    std::string text;
    for (const Finding& finding : verify_artifact(bench.output("out"), bench.source(), {}).findings)
      text += finding.where + ": " + finding.what + "\n";
    return text;
  };
  EXPECT_EQ(verify_with_null("model.layers.1.mlp.up_proj").find("dB (SQNR)"), std::string::npos);
  EXPECT_NE(verify_with_null("model.layers.0.mlp.up_proj").find("dB (SQNR) from the source"),
            std::string::npos);
}

}  // namespace
}  // namespace ptq
