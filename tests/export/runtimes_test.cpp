#include "ptq/export/runtimes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "../base/expect_error.h"
#include "../base/temp_directory.h"
#include "../support/toy_llama.h"
#include "../support/toy_source.h"
#include "write_artifact.h"

namespace ptq {
namespace {

namespace fs = std::filesystem;

TEST(RuntimeTable, NamesFormatsThatAreWrittenAndArchitecturesThatExist) {
  std::set<std::string> architecture_names, runtime_names;
  for (const ArchitectureEntry& entry : architectures()) architecture_names.insert(entry.name);
  for (const RuntimeEntry& runtime : runtimes()) {
    SCOPED_TRACE(runtime.name);
    EXPECT_TRUE(runtime_names.insert(runtime.name).second);
    EXPECT_EQ(std::string(runtime.date).size(), std::string("2026-11").size());
    for (const RuntimeFormat& format : runtime.formats) {
      SCOPED_TRACE(format.name);
      EXPECT_NE(find_format(format.name).write, nullptr);
      EXPECT_NE(find_format(format.name).stored, nullptr);
      std::set<std::string> listed;
      for (const RuntimeArchitecture& row : format.architectures) {
        EXPECT_TRUE(architecture_names.contains(row.name)) << row.name;
        EXPECT_TRUE(listed.insert(row.name).second) << row.name;
      }
      for (const auto& [name, why] : format.refused) {
        EXPECT_TRUE(architecture_names.contains(name)) << name;
        EXPECT_FALSE(listed.contains(name)) << name;
      }
      for (const RuntimeKernel& kernel : format.kernels) {
        EXPECT_FALSE(kernel.bits.empty() || kernel.inputs.empty()) << kernel.name;
        const bool rounds = kernel.inputs.front() != InputForm::kFloat;
        EXPECT_EQ(rounds, !kernel.input_bits.empty()) << kernel.name;
      }
    }
  }
}

TEST(RuntimeTable, UnknownNameIsAUsageErrorWithASuggestion) {
  EXPECT_EQ(find_runtime("vllm").name, std::string("vllm"));
  EXPECT_ERROR(find_runtime("vlm"), ExitCode::kUsage, "did you mean \"vllm\"");
}

// A Llama of linears [128 or 256, 128] and [128, 256].
class Runtimes : public ::testing::Test {
 protected:
  Runtimes() {
    const testing::ToyModel toy =
        testing::toy_llama({.hidden = 128, .heads = 2, .kv_heads = 2, .intermediate = 256});
    fs::create_directory(directory_ / "m");
    testing::write_safetensors(directory_ / "m/model.safetensors", toy.tensors);
    directory_.write("m/config.json", toy.config.dump());
  }
  OpenModel artifact(const testing::Change& change) const {
    return open_model(testing::write_artifact(directory_ / "m", directory_ / "q", change), {}, at::kMeta);
  }
  // Every linear under the scheme.
  static testing::Change rounded(const WeightScheme& scheme) {
    return [scheme](Block& block) {
      for (Linear* linear : block.linears())
        linear->weight.set(round_to_nearest(linear->weight.values(), scheme));
    };
  }
  static WeightScheme groups(int bits, int64_t group, bool symmetric = true) {
    WeightScheme scheme;
    scheme.bits = bits;
    scheme.granularity = Granularity::kGroup;
    scheme.group = group;
    scheme.symmetric = symmetric;
    return scheme;
  }
  static RuntimeFit fit(const std::string& runtime, const std::string& format, const OpenModel& artifact) {
    for (RuntimeFit& each : fits(find_runtime(runtime), artifact, "rtn")) {
      if (each.format->name == format) return std::move(each);
    }
    ADD_FAILURE() << runtime << " has no row of " << format;
    return {};
  }
  static bool has(const std::vector<std::string>& texts, const std::string& part) {
    return std::any_of(texts.begin(), texts.end(),
                       [&](const std::string& text) { return text.find(part) != std::string::npos; });
  }
  // Does not load, for that reason, and says what would help.
  static void expect_refused(const RuntimeFit& fit, const std::string& reason, const std::string& change) {
    EXPECT_FALSE(fit.loads());
    EXPECT_TRUE(has(fit.reasons, reason)) << Json(fit.reasons).dump();
    EXPECT_TRUE(has(fit.changes, change)) << Json(fit.changes).dump();
  }

  const TempDirectory directory_;
};

TEST_F(Runtimes, EveryKernelThatTakesALayerIsNamed) {
  const OpenModel model = artifact(rounded(groups(4, 128)));
  const RuntimeFit served = fit("vllm", "compressed-tensors", model);
  ASSERT_TRUE(served.loads()) << Json(served.reasons).dump();
  ASSERT_EQ(served.layers.size(), 1U);
  EXPECT_EQ(served.layers.begin()->first,
            "Machete (CUDA, sm90), Marlin (CUDA, sm75 and later), CPU with AVX-512");
  EXPECT_EQ(served.layers.begin()->second.size(), 14U);
  EXPECT_TRUE(fit("sglang", "gptq", model).loads());
  EXPECT_TRUE(fit("transformers", "gptq", model).loads());
  const RuntimeFit blocks = fit("llama.cpp", "gguf", model);
  EXPECT_TRUE(blocks.loads());
  EXPECT_EQ(blocks.layers.at("Q4_0").size(), 14U);
}

TEST_F(Runtimes, GroupThatNoKernelTakesIsRefusedWithTheMethodsOption) {
  const OpenModel model = artifact(rounded(groups(4, 16)));
  expect_refused(fit("vllm", "compressed-tensors", model), "groups of 16", "--set rtn.group=128");
  EXPECT_TRUE(fit("transformers", "compressed-tensors", model).loads());
}

TEST_F(Runtimes, BitsWithoutAKernelAreRefusedWithThoseThatHaveOne) {
  const OpenModel model = artifact(rounded(groups(3, 32)));
  expect_refused(fit("sglang", "compressed-tensors", model), "w3a16", "--bits w4a16, w8a16, w8a8");
  EXPECT_TRUE(fit("vllm", "compressed-tensors", model).layers.contains("Humming (CUDA)"));
}

TEST_F(Runtimes, ZeroPointsAreRefusedWhereOnlySymmetricCodesAreComputed) {
  // rtn has no such option: another method's is named.
  expect_refused(fit("vllm", "compressed-tensors", artifact(rounded(groups(8, 32, false)))), "zero points",
                 "--method gptq --set gptq.symmetric=true");
  EXPECT_TRUE(fit("vllm", "compressed-tensors", artifact(rounded(groups(4, 32, false)))).loads());
}

TEST_F(Runtimes, ShapeThatDoesNotFitNamesTheLayerToSkip) {
  const testing::ToyModel toy =
      testing::toy_llama({.hidden = 128, .heads = 2, .kv_heads = 2, .intermediate = 96});
  testing::write_safetensors(directory_ / "m/model.safetensors", toy.tensors);
  directory_.write("m/config.json", toy.config.dump());
  expect_refused(fit("sglang", "compressed-tensors", artifact(rounded(groups(4, 32)))), "[96, 128]",
                 "--skip model.layers.0.mlp.down_proj");
}

TEST_F(Runtimes, RoundedInputsHaveKernelsOfTheirOwn) {
  const OpenModel model = artifact([](Block& block) {
    for (Linear* linear : block.linears())
      linear->weight.set(round_to_nearest(linear->weight.values(), WeightScheme{}));
    for (const Linear* linear : block.linears())
      block.site(linear->site).quantizer = ActivationQuantizer::per_token(8);
  });
  EXPECT_TRUE(fit("vllm", "compressed-tensors", model).layers.contains("CUTLASS (CUDA), Triton (CUDA), CPU"));
  EXPECT_TRUE(fit("sglang", "compressed-tensors", model).loads());
  // A format that does not hold them says so itself.
  expect_refused(fit("vllm", "gptq", model), "rounds activations", "--format compressed-tensors");
}

TEST_F(Runtimes, ArchitectureThatIsKnownNotToLoadIsRefusedForItsReason) {
  const testing::ToyModel toy = {testing::toy_mamba({.d_model = 32, .d_inner = 64}), {}};
  testing::write_safetensors(directory_ / "m/model.safetensors", toy.tensors);
  fs::remove(directory_ / "m/config.json");
  const OpenModel mamba = artifact(rounded(WeightScheme{}));
  EXPECT_TRUE(has(fit("vllm", "compressed-tensors", mamba).reasons, "stops while loading"));
  EXPECT_TRUE(has(fit("vllm", "gptq", mamba).reasons, "it is not known whether vllm"));
  EXPECT_TRUE(fit("transformers", "compressed-tensors", mamba).loads());
  EXPECT_TRUE(fit("llama.cpp", "gguf", mamba).loads());
}

// A layer that servers make of several has one scale for its inputs, and so have those that read one site.
TEST(Fused, LayersThatServersFuseReadOneSiteInEveryArchitecture) {
  const std::vector<std::set<std::string>> fused = {
      {"q_proj", "k_proj", "v_proj"}, {"gate_proj", "up_proj"}, {"w1", "w3"}};
  int64_t groups = 0;
  for (const auto& entry : fs::directory_iterator(PTQ_FAMILIES)) {
    SCOPED_TRACE(entry.path());
    const OpenModel open = open_model(entry.path().string(), {}, at::kMeta);
    for (int64_t i = 0; i < open.model->num_blocks(); ++i) {
      const std::unique_ptr<Block> block = open.model->load_block(i);
      std::map<std::pair<std::string, size_t>, std::string> sites;  // of a module's group of layers
      for (const Linear* linear : block->linears()) {
        const size_t dot = linear->name.rfind('.');
        for (size_t g = 0; g < fused.size(); ++g) {
          if (!fused[g].contains(linear->name.substr(dot + 1))) continue;
          const auto [found, added] = sites.emplace(std::pair(linear->name.substr(0, dot), g), linear->site);
          EXPECT_EQ(found->second, linear->site) << linear->name;
          groups += added ? 1 : 0;
        }
      }
    }
  }
  EXPECT_GT(groups, 50);
}

}  // namespace
}  // namespace ptq
