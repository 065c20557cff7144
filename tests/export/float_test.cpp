// Artifacts as float models, and as plain tensors.
#include <gtest/gtest.h>

#include "export/bitsandbytes_source.h"
#include "export/torch_file.h"
#include "toy_artifact.h"

namespace ptq {
namespace {

using testing::and_then;
using testing::correct;
using testing::groups;
using testing::in;
using testing::rows;
using testing::TensorMap;
using testing::wide_llama;
using testing::wide_mamba;
using testing::with_inputs;

// Dequantized weights behind a rotation of what they read.
void rotate_and_round(Block& block) {
  Site& site = block.site("qkv.input");
  site.transform.stages.emplace_back(make_hadamard(64));
  for (Linear* linear : block.linears()) {
    const Tensor w = linear->weight.values();
    linear->weight.set(
        round_to_nearest(linear->site == site.name ? site.transform.apply(w) : w, groups(4, 32)));
  }
}

class FloatModels : public testing::ToyArtifacts {
 protected:
  FloatModels() : ToyArtifacts("float") {}

  ExportResult exported_as(const std::string& dtype, const testing::ToyModel& toy,
                           const testing::Change& change) const {
    const OpenModel model = open_model(artifact(toy, change), {}, at::kCPU);
    EXPECT_EQ(format_.why_not(model, target()), "");
    return format_.write(model, {directory_ / "out", export_options(format_, {{"outtype", dtype}})});
  }
  // How far what was exported is from the artifact.
  double db() const { return sqnr_db(logits(open_model(directory_ / "q", {}, at::kCPU)), logits(opened())); }
};

TEST_F(FloatModels, ComputeWhatTheArtifactDoes) {
  const std::vector<testing::Change> changes = {in(groups(4, 32, false)), in(rows(8)),
                                                and_then(in(groups(4, 32)), correct), rotate_and_round,
                                                and_then(rotate_and_round, correct)};
  for (const testing::Change& change : changes) {
    const ExportResult result = exported_as("f32", wide_llama(), change);
    EXPECT_FALSE(opened().quantized);
    EXPECT_GT(db(), 90);
    EXPECT_EQ(result.json["layers"], 14);
    EXPECT_TRUE(result.json["sqnr_db"].is_null());
    EXPECT_FALSE(config().contains("quantization_config"));
    EXPECT_EQ(config()["torch_dtype"], "float32");
  }
}

TEST_F(FloatModels, WhatADtypeCostsIsSaid) {
  for (const auto& [dtype, least] : {std::pair{"f16", 60.0}, std::pair{"bf16", 40.0}}) {
    const ExportResult result = exported_as(dtype, wide_llama(), in(rows(8)));
    EXPECT_GT(result.json["sqnr_db"], least);
    EXPECT_NE(result.text.find(" dB or more"), std::string::npos) << result.text;
    EXPECT_GT(db(), least - 10);
    const at::ScalarType stored_as = dtype == std::string("f16") ? at::kHalf : at::kBFloat16;
    for (const auto& [name, tensor] : stored()) EXPECT_EQ(tensor.scalar_type(), stored_as) << name;
  }
}

TEST_F(FloatModels, AreInTheModelsDtypeByDefault) {
  testing::ToyModel toy = wide_llama();
  toy.config["torch_dtype"] = "bfloat16";
  exported(toy, in(rows(8)));
  EXPECT_EQ(config()["torch_dtype"], "bfloat16");
  EXPECT_EQ(stored().at("model.embed_tokens.weight").scalar_type(), at::kBFloat16);
}

TEST_F(FloatModels, ValuesThatFloat16DoesNotHoldAreAnError) {
  const auto large = [](Block& block) {
    Linear& linear = *block.linears().front();
    linear.weight.set(round_to_nearest(linear.weight.values() * 1e7, rows(8)));
  };
  EXPECT_ERROR(exported_as("f16", wide_llama(), large), ExitCode::kFailed, "has values past 65504");
  EXPECT_FALSE(std::filesystem::exists(directory_ / "out"));
}

TEST_F(FloatModels, RoundingOfActivationsIsLeftOutAndSaid) {
  const ExportResult result =
      exported_as("f32", wide_llama(), with_inputs(in(rows(8)), ActivationQuantizer::per_token(8)));
  EXPECT_EQ(result.json["unrounded_sites"]["qkv.input"], 2);
  EXPECT_NE(result.text.find("not rounded where this is loaded: qkv.input of 2 blocks"), std::string::npos);
}

TEST_F(FloatModels, TransformsThatNoWeightTakesInAreRefused) {
  const auto rotate_queries = [](Block& block) {
    block.site("attn.q").transform.stages.emplace_back(make_hadamard(16));
  };
  const std::string reason = refusal(wide_llama(), rotate_queries);
  EXPECT_NE(reason.find("attn.q: has an online transform (hadamard(16)), which a float model does not run"),
            std::string::npos)
      << reason;
}

TEST_F(FloatModels, OfAFloatCheckpointAreItsCopy) {
  exported_as("f32", wide_mamba(), [](Block&) {});
  EXPECT_TRUE(at::allclose(logits(open_model(directory_ / "m", {}, at::kCPU)), logits(opened())));
  EXPECT_TRUE(format_.exports_floats);
}

class PlainTensors : public testing::ToyArtifacts {
 protected:
  PlainTensors() : ToyArtifacts("pt") {}
};

// A weight as the text "usage" puts it together.
Tensor weight_of(const TensorMap& t, const std::string& name) {
  if (t.contains(name)) return t.at(name).to(at::kFloat);
  const Tensor codes = t.at(name + ".codes"), scale = t.at(name + ".scale");
  const auto spread = [&](const Tensor& x) {
    if (!t.contains(name + ".group") || x.dim() < 2) return x;
    return x.repeat_interleave(t.at(name + ".group").item<int64_t>(), 1).slice(1, 0, codes.size(1));
  };
  if (t.contains(name + ".table")) return t.at(name + ".table").index({codes.to(at::kLong)}) * spread(scale);
  const bool has_zero = t.contains(name + ".zero");
  const Tensor zero = has_zero ? t.at(name + ".zero").to(at::kFloat) : at::zeros({1});
  return (codes.to(at::kFloat) - spread(zero)) * spread(scale);
}

TEST_F(PlainTensors, GiveTheValuesOfTheArtifact) {
  for (const WeightScheme& scheme :
       {WeightScheme{}, rows(6), groups(4, 64), groups(3, 32, false), nf4_scheme()}) {
    const ExportResult result = exported(wide_llama(), in(scheme));
    EXPECT_EQ(result.json["weights_in_codes"], 14);
    const TensorMap tensors = stored();
    EXPECT_EQ(tensors.at("model.layers.0.self_attn.q_proj.weight.codes").scalar_type(), at::kChar);
    const OpenModel open = open_model(directory_ / "q", {}, at::kCPU);
    const std::unique_ptr<Block> block = open.model->load_block(0);
    for (const Linear* linear : block->linears())
      EXPECT_TRUE(at::equal(weight_of(tensors, linear->weight.name), linear->weight.values()))
          << linear->name;
  }
}

TEST_F(PlainTensors, HoldCorrectionsAndStaticScales) {
  const ExportResult result = exported(
      wide_llama(), and_then(with_inputs(in(rows(8)), ActivationQuantizer::fixed(0.05, 8)), correct));
  EXPECT_EQ(result.json["corrections"], 14);
  const TensorMap tensors = stored();
  EXPECT_EQ(tensors.at("model.layers.1.mlp.down_proj.lora_A").sizes(), at::IntArrayRef({2, 96}));
  EXPECT_EQ(tensors.at("model.layers.1.sites.qkv.input_scale").item<float>(), 0.05F);
}

TEST_F(PlainTensors, TransformsAreRefused) {
  const std::string reason = refusal(wide_llama(), rotate_and_round);
  EXPECT_NE(reason.find("qkv.input: has an online transform (hadamard(64))"), std::string::npos) << reason;
  EXPECT_NE(reason.find("--format float"), std::string::npos) << reason;
}

TEST(TorchFile, IsReadAsItWasWritten) {
  const TempDirectory directory;
  const std::string path = directory / "t.pt";
  const TensorMap tensors = {{"a", at::arange(12, at::kInt).reshape({3, 4}).t()},
                             {"b", at::tensor({1.5}).to(at::kHalf)},
                             {"c", at::tensor({-1, 1}, at::kChar)},
                             {"d", at::scalar_tensor(7, at::kLong)},
                             {"e", at::tensor({2.5, -1.0}).to(at::kBFloat16)}};
  {
    TorchFile file(path);
    file.add("text", "words");
    for (const auto& [name, tensor] : tensors) file.add(name, tensor);
    EXPECT_FALSE(std::filesystem::exists(path));
    file.commit();
    EXPECT_EQ(file.bytes(), static_cast<int64_t>(std::filesystem::file_size(path)));
  }
  const auto checkpoint = open_checkpoint(path);
  EXPECT_EQ(checkpoint->tensors().size(), tensors.size());
  for (const auto& [name, tensor] : tensors)
    EXPECT_TRUE(at::equal(as_tensor(checkpoint->read(name)), tensor.contiguous())) << name;
  EXPECT_ERROR(TorchFile{path}, ExitCode::kFailed, "already exists");
  {
    TorchFile unfinished(directory / "u.pt");
  }
  EXPECT_EQ(directory.list(), (std::vector<std::string>{"t.pt"}));
}

}  // namespace
}  // namespace ptq
