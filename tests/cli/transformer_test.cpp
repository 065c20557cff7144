// Transformers: DuQuant and the baselines on the sample Llama, and what can be wrong with such a run.
#include "cli/cli.h"

namespace ptq {
namespace {

class Transformer : public Cli {
 protected:
  const std::string llama_ = PTQ_TEST_DATA "/llama-1m";

  Words run_of(const std::string& model, const Words& options) const {
    return Words{model} + options + small_ + Words{"-o", "q", "--quiet"};
  }
  // A copy of the sample model with `value` (the bits of a float16) in every element of one tensor.
  std::string filled(const std::string& tensor, uint16_t value) const {
    namespace fs = std::filesystem;
    fs::copy(llama_, directory_ / "model");
    std::string file = directory_.read("model/model.safetensors");
    uint64_t length = 0;
    for (size_t i = 0; i < 8; ++i) length |= uint64_t{static_cast<uint8_t>(file[i])} << (8 * i);
    const Json range = parse_json(file.substr(8, length), "header")[tensor]["data_offsets"];
    for (size_t at = range[0].get<size_t>(); at < range[1].get<size_t>(); at += 2) {
      file[8 + length + at] = static_cast<char>(value & 0xff);
      file[8 + length + at + 1] = static_cast<char>(value >> 8);
    }
    fs::permissions(directory_ / "model/model.safetensors", fs::perms::owner_write, fs::perm_options::add);
    directory_.write("model/model.safetensors", file);
    return "model";
  }
  void refused(const std::string& model, const Words& options, int exit_code, const Words& words) const {
    const ProcessResult result = run(run_of(model, options));
    EXPECT_EQ(result.exit_code, exit_code) << result.err;
    EXPECT_FALSE(std::filesystem::exists(directory_ / "q"));
    for (const std::string& word : words) EXPECT_NE(result.err.find(word), std::string::npos) << result.err;
  }
};

TEST_F(Transformer, DuQuantWritesPackedCodesAndIsReadBack) {
  run_well(run_of(llama_, {"--method", "duquant"}));
  const Json config = read_json_file(directory_ / "q/config.json");
  const Json& quantization = config["quantization_config"];
  const Json& q_proj = quantization["weights"]["model.layers.0.self_attn.q_proj.weight"];
  EXPECT_EQ(q_proj["bits"], 4);
  EXPECT_EQ(q_proj["symmetric"], false);
  const Json& site = quantization["sites"]["model.layers.0.sites.down.input"];
  EXPECT_EQ(site["quantizer"], "dynamic");
  EXPECT_FALSE(site["transform"].empty());
  EXPECT_EQ(quantization["sites"]["model.layers.0.sites.attn.k"]["group"], 16);
  const Json eval = run_json({"eval", "q", "--text", eval_, "--seq-len", "128", "--against", llama_});
  EXPECT_LT(eval["against"]["mean_kl"].get<double>(), 0.3);
  EXPECT_GT(eval["against"]["top1_agreement"].get<double>(), 0.6);
}

TEST_F(Transformer, ReportSaysWhatTheRotationDidToEverySite) {
  run_well(run_of(llama_,
                  {"--method", "duquant", "--set", "duquant.rotation=greedy", "--set", "duquant.steps=8"}));
  const Json json = report("q");
  double share = 0;
  for (const Json& block : json["blocks"]) share += block["error_share"].get<double>();
  EXPECT_NEAR(share, 1, 1e-9);
  int inputs = 0;
  for (const Json& site : json["sites"]) {
    EXPECT_GT(site["peak_before"].get<double>(), 0) << site["name"];
    if (site.at("kind") != "linear_input") continue;
    ++inputs;
    EXPECT_EQ(site["rotation_steps"].size(), 2U) << site["name"];
    EXPECT_LT(site["orthogonality_error"].get<double>(), 1e-6) << site["name"];
  }
  EXPECT_EQ(inputs, 4 * 4);
}

TEST_F(Transformer, BlockThatDoesNotDivideTheWidthIsRefused) {
  refused(llama_, {"--method", "duquant", "--set", "duquant.block=96"}, 2, {"96", "128 channels", "auto"});
}

TEST_F(Transformer, BlockWithoutAHadamardMatrixIsRefused) {
  refused(llama_, {"--method", "duquant", "--set", "duquant.block=11", "--set", "duquant.permute=false"}, 2,
          {"11", "128 channels"});
}

TEST_F(Transformer, DuQuantOnAMambaSaysWhatItIsFor) {
  refused(model_, {"--method", "duquant"}, 1, {"Mamba", "duquant is for transformers"});
}

TEST_F(Transformer, SiteWithoutActivationsIsAFallbackThatStrictRefuses) {
  const std::string model = filled("model.layers.1.post_attention_layernorm.weight", 0);
  for (const char* method : {"duquant", "gptq", "qera"}) {
    run_well(run_of(model, {"--method", method, "--force"}));
    const Json fallbacks = report("q")["fallbacks"];
    ASSERT_FALSE(fallbacks.empty()) << method;
    for (const Json& row : fallbacks) {
      EXPECT_EQ(row["where"].get<std::string>().find("model.layers.1."), 0U) << row;
      EXPECT_EQ(row["why"], "all its calibration activations are zero");
    }
  }
  std::filesystem::remove_all(directory_ / "q");
  refused(model, {"--method", "gptq", "--strict"}, 1,
          {"model.layers.1.mlp.gate_proj", "all its calibration activations are zero"});
}

TEST_F(Transformer, ActivationsThatOverflowInHalfPrecisionAreAWarningThatNamesTheFirstSite) {
  const std::string model = filled("model.layers.1.post_attention_layernorm.weight", 0x7bff);  // 65504
  run_well(run_of(model, {"--method", "duquant"}));
  int said = 0;
  const Json whole = report("q");
  for (const Json& row : whole["warnings"]) {
    const auto warning = row.get<std::string>();
    if (warning.find("would overflow in FP16") == std::string::npos) continue;
    EXPECT_EQ(warning.find("model.layers.1.sites.gate_up.input"), 0U) << warning;
    ++said;
  }
  EXPECT_EQ(said, 1);
}

TEST_F(Transformer, EveryBaselineRunsAtEveryBits) {
  for (const char* method : {"rtn", "smoothquant", "gptq"}) {
    for (const char* bits : {"w4a4", "w8a8"}) {
      run_well(run_of(llama_, {"--method", method, "--bits", bits, "--force"}));
      EXPECT_EQ(report("q")["recipe"]["bits"], bits);
    }
  }
}

TEST_F(Transformer, SixBitCodesOutOfRangeAreRefused) {
  run_well(run_of(llama_, {"--method", "rtn", "--bits", "w6a6"}));
  std::string file = weights("q");
  uint64_t length = 0;
  for (size_t i = 0; i < 8; ++i) length |= uint64_t{static_cast<uint8_t>(file[i])} << (8 * i);
  const std::string name = "model.layers.0.self_attn.q_proj.weight";
  const Json entry = parse_json(file.substr(8, length), "header")[name];
  file[8 + length + entry["data_offsets"][0].get<size_t>()] = 100;
  directory_.write("q/model.safetensors", file);
  expect_error({"eval", "q", "--text", eval_, "--seq-len", "64"}, 1, {name, "100", "6 bits hold -32 to 31"});
}

}  // namespace
}  // namespace ptq
