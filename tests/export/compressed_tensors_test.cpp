// What is written as compressed-tensors, and what is refused.
#include <gtest/gtest.h>

#include "../base/expect_error.h"
#include "export/packed_words.h"
#include "toy_artifact.h"

namespace ptq {
namespace {

using testing::and_then;
using testing::correct;
using testing::groups;
using testing::in;
using testing::rows;
using testing::wide_llama;
using testing::wide_mamba;
using testing::with_inputs;

// Words of compressed_tensors 0.20.1's pack_to_int32.
struct Packed {
  int bits;
  std::vector<int8_t> codes;
  std::vector<uint32_t> words;
};

const std::vector<Packed> kPacked = {
    {2, {-2, -1, 0, 1, -2, -1, 0, 1, -2, -1, 0, 1, -2, -1, 0, 1, -2, -1, 0, 1}, {0xe4e4e4e4, 0x000000e4}},
    {3, {-4, 1, -2, 3, 0, -3, 2, -1, -4, 1, -2, 3, 0, -3, 2, -1, -4, 1, -2, 3}, {0xa878cea8, 0x0ea878ce}},
    {4,
     {-8, -3, 2, 7, -4, 1, 6, -5, 0, 5, -6, -1, 4, -7, -2, 3, -8, -3, 2, 7},
     {0x3e94fa50, 0xb61c72d8, 0x0000fa50}},
    {8,
     {-128, -123, -118, -113, -108, -103, -98, -93, -88, -83,
      -78,  -73,  -68,  -63,  -58,  -53,  -48, -43, -38, -33},
     {0x0f0a0500, 0x231e1914, 0x37322d28, 0x4b46413c, 0x5f5a5550}}};

Tensor words_of(const std::vector<uint32_t>& words) {
  Tensor tensor = at::empty({1, static_cast<int64_t>(words.size())}, at::kInt);
  for (size_t i = 0; i < words.size(); ++i)
    tensor[0][static_cast<int64_t>(i)] = static_cast<int64_t>(static_cast<int32_t>(words[i]));
  return tensor;
}

TEST(PackedWords, AreThoseOfPackToInt32) {
  for (const Packed& packed : kPacked) {
    SCOPED_TRACE(packed.bits);
    const Tensor codes = at::tensor(packed.codes, at::kChar).unsqueeze(0);
    const Tensor words = words_of(packed.words);
    EXPECT_EQ(words_in_row(codes.size(1), packed.bits), words.size(1));
    EXPECT_TRUE(at::equal(pack_words(codes, packed.bits), words));
    EXPECT_TRUE(at::equal(unpack_words(words, codes.size(1), packed.bits), codes));
  }
}

TEST(PackedWords, ZeroPointsLieAlongTheRowsOfTheWeight) {
  const std::vector<int8_t> zeros = {-8, 7, -1, 0, 3, -5, 2, 2, 0, 1, 6, -7, -3, 4, 5, -2, 1, -6, -4, 3};
  const Tensor by_row = at::tensor(zeros, at::kChar).reshape({10, 2});  // [out, groups]
  const Tensor words = pack_words(by_row.t().contiguous(), 4).t();
  EXPECT_TRUE(at::equal(words.reshape({1, 4}), words_of({0xd5e8ab70, 0x6c19a38f, 0x00000049, 0x000000b2})));
}

TEST(PackedWords, EveryWidthComesBack) {
  for (int bits = 2; bits <= 8; ++bits) {
    const int64_t top = int64_t{1} << (bits - 1);
    const Tensor codes = at::arange(3 * 37).remainder(2 * top).sub(top).to(at::kChar).reshape({3, 37});
    EXPECT_TRUE(at::equal(unpack_words(pack_words(codes, bits), 37, bits), codes)) << bits;
  }
}

class CompressedTensors : public testing::ToyArtifacts {};

TEST_F(CompressedTensors, PackedWeightsComputeTheSame) {
  WeightScheme mxint = groups(4, kMxintGroup);
  mxint.format = NumberFormat::kMxint;
  mxint.half_scales = false;
  WeightScheme whole = rows(4);
  whole.granularity = Granularity::kTensor;
  const std::vector<WeightScheme> schemes = {groups(4, 32),  groups(4, 32, false),
                                             groups(3, 32),  groups(2, 32, false),
                                             groups(8, 32),  rows(8),
                                             rows(4, false), rows(6),
                                             mxint,          whole};
  for (const WeightScheme& scheme : schemes) {
    SCOPED_TRACE(std::to_string(scheme.bits) + granularity_name(scheme.granularity));
    const ExportResult result = exported(wide_llama(), in(scheme));
    EXPECT_EQ(result.json["layers"], Json({{"pack-quantized", 14}}));
    expect_same_logits();
    const Json config = quantization();
    EXPECT_EQ(config["format"], "pack-quantized");
    EXPECT_EQ(config["ignore"], Json({"lm_head"}));
    ASSERT_EQ(config["config_groups"].size(), 1U);
    const Json& group = config["config_groups"]["group_0"];
    EXPECT_EQ(group["targets"], Json({"Linear"}));
    EXPECT_EQ(group["format"], "pack-quantized");
    EXPECT_EQ(group["weights"]["num_bits"], scheme.bits);
    EXPECT_TRUE(group["input_activations"].is_null());
    // transformers cannot load packed zero points otherwise.
    EXPECT_EQ(config.value("dequantize", false), !scheme.symmetric);
  }
}

TEST_F(CompressedTensors, RoundedInputsComputeTheSame) {
  const std::vector<ActivationQuantizer> inputs = {ActivationQuantizer::per_token(8),
                                                   ActivationQuantizer::fixed(0.05, 8)};
  for (const ActivationQuantizer& quantizer : inputs) {
    for (const WeightScheme& scheme : {rows(8), WeightScheme{}, groups(4, 32)}) {
      SCOPED_TRACE(std::string(quantizer.kind_name()) + std::to_string(scheme.bits));
      exported(wide_llama(), with_inputs(in(scheme), quantizer));
      expect_same_logits();
      const Json config = quantization();
      const Json& group = config["config_groups"]["group_0"];
      EXPECT_EQ(group["format"], scheme.bits == 8 ? "int-quantized" : "pack-quantized");
      EXPECT_EQ(group["weights"]["strategy"], granularity_name(scheme.granularity));
      const bool dynamic = quantizer.kind == ActivationQuantizer::Kind::kDynamic;
      EXPECT_EQ(group["input_activations"]["dynamic"], dynamic);
      EXPECT_EQ(group["input_activations"]["strategy"], dynamic ? "token" : "tensor");
      EXPECT_FALSE(config.contains("dequantize"));
      // Servers take one scale for layers that they fuse, whichever comes last.
      const auto checkpoint = open_checkpoint(directory_ / "out");
      for (const char* linear : {"q_proj", "k_proj", "v_proj"}) {
        const std::string name = std::string("model.layers.0.self_attn.") + linear + ".input_scale";
        ASSERT_EQ(checkpoint->find(name) == nullptr, dynamic);
        if (!dynamic) {
          EXPECT_EQ(as_tensor(checkpoint->read(name)).item<float>(), 0.05F);
        }
      }
    }
  }
}

TEST_F(CompressedTensors, GroupsThatDoNotFillARowBecomeSmaller) {
  exported(wide_llama(), in(groups(4, 64)));  // 96 columns of down_proj
  expect_same_logits();
  const Json config = quantization();
  ASSERT_EQ(config["config_groups"].size(), 2U);
  const Json &small = config["config_groups"]["group_0"], &large = config["config_groups"]["group_1"];
  EXPECT_EQ(small["targets"], Json({"re:.*\\.down_proj$"}));
  EXPECT_EQ(small["weights"]["group_size"], 32);
  EXPECT_EQ(large["weights"]["group_size"], 64);
  // Where transformers dequantizes, it does so by one scheme.
  exported(wide_llama(), in(groups(4, 64, false)));
  expect_same_logits();
  const Json asymmetric = quantization();
  ASSERT_EQ(asymmetric["config_groups"].size(), 1U);
  EXPECT_EQ(asymmetric["config_groups"]["group_0"]["weights"]["group_size"], 32);
}

TEST_F(CompressedTensors, LayersInFloatAreIgnoredByExpression) {
  const auto change = [](Block& block) {
    for (Linear* linear : block.linears()) {
      const bool first_o = linear->name == "model.layers.0.self_attn.o_proj";
      if (first_o || linear->name.ends_with("down_proj")) continue;
      linear->weight.set(round_to_nearest(linear->weight.values(), rows(8)));
    }
  };
  exported(wide_llama(), change);
  expect_same_logits();
  EXPECT_EQ(quantization()["ignore"],
            Json({"lm_head", "re:.*\\.down_proj$", "re:.*\\.layers\\.0\\.self_attn\\.o_proj$"}));
}

TEST_F(CompressedTensors, ScalesAreInTheModelsDtypeWhereThatHoldsThem) {
  for (const char* dtype : {"float16", "bfloat16", "float32"}) {
    testing::ToyModel toy = wide_llama();
    toy.config["torch_dtype"] = dtype;
    exported(toy, in(groups(4, 32)));
    expect_same_logits();
    const auto checkpoint = open_checkpoint(directory_ / "out");
    // The artifact's scales are float16 numbers, which bfloat16 does not hold.
    EXPECT_EQ(checkpoint->find("model.layers.0.mlp.up_proj.weight_scale")->dtype,
              dtype == std::string("float16") ? DType::kF16 : DType::kF32);
  }
}

TEST_F(CompressedTensors, NoScaleIsZero) {
  const auto change = [](Block& block) {
    for (Linear* linear : block.linears()) {
      Tensor w = linear->weight.values().clone();
      w.slice(0, 0, 3).zero_();
      WeightScheme scheme = groups(4, 32, false);
      scheme.plain_scales = true;
      linear->weight.set(round_to_nearest(w, scheme));
      ASSERT_TRUE((linear->weight.quantized()->scale == 0).any().item<bool>());
    }
  };
  exported(wide_llama(), change);
  expect_same_logits();
  const auto checkpoint = open_checkpoint(directory_ / "out");
  for (const TensorInfo& info : checkpoint->tensors()) {
    if (!info.name.ends_with("weight_scale")) continue;
    EXPECT_TRUE((as_tensor(checkpoint->read(info.name)) > 0).all().item<bool>()) << info.name;
  }
}

TEST_F(CompressedTensors, PackedMambaIsDequantizedByTransformers) {
  exported(wide_mamba(), in(groups(4, 32)));
  const Json config = quantization();
  EXPECT_EQ(config["ignore"], Json({"lm_head", "re:.*\\.dt_proj$"}));
  EXPECT_EQ(config["dequantize"], true);
  EXPECT_TRUE(at::allclose(logits(opened()), logits(open_model(directory_ / "q", {}, at::kCPU))));
}

// Quamba's: a rotation at the output projection, and codes of what is no linear.
TEST_F(CompressedTensors, RotationIsTakenOutAndWhatHasNoCodesIsInFloat) {
  testing::ToyModel toy = wide_mamba();
  toy.tensors["backbone.embedding.weight"] = toy.tensors.at("backbone.embeddings.weight");
  toy.tensors.erase("backbone.embeddings.weight");
  const auto change = [](Block& block) {
    Site& rotated = block.site("ssm.output");
    rotated.transform.stages.emplace_back(make_hadamard(64));
    for (Linear* linear : block.linears()) {
      const bool turned = linear->site == rotated.name;
      const Tensor w = linear->weight.values();
      linear->weight.set(round_to_nearest(turned ? rotated.transform.apply(w) : w, WeightScheme{}));
      block.site(linear->site).quantizer = ActivationQuantizer::fixed(0.05, 8);
    }
    block.site("ssm.B").quantizer = ActivationQuantizer::fixed(0.05, 8);
    for (Weight* weight : block.weights()) {
      if (weight->role == Role::kDecay) weight->set(round_to_nearest(weight->values(), WeightScheme{}));
    }
  };
  const ExportResult result = exported(toy, change);
  EXPECT_EQ(result.json["layers"], Json({{"int-quantized", 6}}));
  EXPECT_EQ(result.json["rotated_sqnr_db"].size(), 2U);
  EXPECT_GT(result.json["rotated_sqnr_db"]["backbone.layers.0.mixer.out_proj"], 35);
  EXPECT_EQ(result.json["in_float"].size(), 4U);  // A_log and dt_proj of two blocks
  EXPECT_EQ(result.json["unrounded_sites"], Json({{"dt_proj.input", 2}, {"ssm.B", 2}}));
  const Json config = quantization();
  ASSERT_EQ(config["config_groups"].size(), 2U);
  const Json &plain = config["config_groups"]["group_0"], &turned = config["config_groups"]["group_1"];
  EXPECT_EQ(plain["targets"], Json({"re:.*\\.in_proj$", "re:.*\\.x_proj$"}));
  EXPECT_EQ(plain["input_activations"]["dynamic"], false);
  EXPECT_EQ(turned["targets"], Json({"re:.*\\.out_proj$"}));
  EXPECT_EQ(turned["input_activations"]["strategy"], "token");
  const auto checkpoint = open_checkpoint(directory_ / "out");
  EXPECT_NE(checkpoint->find("backbone.embeddings.weight"), nullptr);
  EXPECT_NE(checkpoint->find("backbone.layers.0.mixer.x_proj.input_scale"), nullptr);
  EXPECT_EQ(checkpoint->find("backbone.layers.0.mixer.out_proj.input_scale"), nullptr);
  EXPECT_EQ(checkpoint->find("backbone.layers.0.mixer.A_log")->dtype, DType::kF32);
  const OpenModel before = open_model(directory_ / "q", {}, at::kCPU);
  EXPECT_GT(sqnr_db(logits(before), logits(opened())), 20);
}

TEST_F(CompressedTensors, CorrectionsGoIntoAnAdapterBesideIt) {
  const ExportResult result = exported(wide_llama(), and_then(in(groups(4, 32)), correct));
  EXPECT_EQ(result.json["adapter"], directory_ / "out-adapter");
  EXPECT_NE(result.text.find("out-adapter: a LoRA adapter with the corrections of 14 layers"),
            std::string::npos);
  const Json adapter = read_json_file(directory_ / "out-adapter/adapter_config.json");
  EXPECT_EQ(adapter["base_model_name_or_path"], "out");
  EXPECT_EQ(adapter["r"], 2);
  EXPECT_EQ(adapter["target_modules"].size(), 7U);
  // peft finds no weights in packed layers.
  EXPECT_EQ(quantization()["dequantize"], true);
  const OpenModel base = opened();
  EXPECT_FALSE(base.model->load_block(0)->linears().front()->correction);
  const auto stored = open_checkpoint(directory_ / "out-adapter/adapter_model.safetensors",
                                      CheckpointOptions::of_any_tensors());
  EXPECT_EQ(stored->tensors().size(), 28U);
}

TEST_F(CompressedTensors, WhatItCannotHoldIsRefusedByNameWithAnAlternative) {
  const auto on_first = [](const std::function<void(Linear&)>& change) {
    return [change](Block& block) { change(*block.linears().front()); };
  };
  WeightScheme nf4 = groups(4, kNf4Group);
  nf4.format = NumberFormat::kNf4;
  nf4.half_scales = false;
  const auto other_bits =
      on_first([](Linear& linear) { linear.weight.set(round_to_nearest(linear.weight.values(), rows(4))); });
  const auto rotate = [](Block& block) {
    block.site("qkv.input").transform.stages.emplace_back(make_hadamard(64));
  };
  const auto rotate_queries = [](Block& block) {
    block.site("attn.q").transform.stages.emplace_back(make_hadamard(16));
  };
  const ActivationQuantizer clipped = ActivationQuantizer::per_token(8, true, 0.9);
  const auto nothing = [](Block&) {};
  const std::vector<std::tuple<testing::Change, std::vector<std::string>>> refused = {
      {in(nf4), {"layers.0.self_attn.q_proj: is in nf4", "a base of integers"}},
      {and_then(in(rows(8)), other_bits),
       {"k_proj: is stored otherwise than model.layers.0.self_attn.q_proj"}},
      {and_then(in(rows(4)), rotate),
       {"sites.qkv.input: has an online transform (hadamard(64))", "--method gptq"}},
      {and_then(in(rows(8)), rotate_queries), {"sites.attn.q: has an online transform"}},
      {with_inputs(in(rows(8, false)), ActivationQuantizer::per_token(8)), {"zero points", "symmetric"}},
      {with_inputs(in(rows(8)), clipped), {"sites.qkv.input: clips each token to 0.9"}},
      {in(groups(4, 40)), {"q_proj: 64 columns do not divide into groups of 40"}},
      {nothing, {"has no layer in codes"}}};
  const std::string mamba = refusal(wide_mamba(), and_then(in(rows(8)), correct));
  EXPECT_NE(mamba.find("out_proj: has a low-rank correction"), std::string::npos) << mamba;
  for (const auto& [change, words] : refused) {
    const std::string reason = refusal(wide_llama(), change);
    for (const std::string& word : words) EXPECT_NE(reason.find(word), std::string::npos) << reason;
  }
}

}  // namespace
}  // namespace ptq
