// What is written as GPTQ and AWQ, what is read of either, and what is refused.
#include <gtest/gtest.h>

#include <limits>

#include "export/gptq_words.h"
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
using testing::with_inputs;

const std::string kQ = "model.layers.0.self_attn.q_proj";

// Words of GPTQModel 7.7 for the codes (row + column) mod 16 of a matrix [in 16, out 8].
const std::vector<int64_t> kGptqWords = {
    0x76543210, 0x87654321, 0x98765432, 0xa9876543, 0xba987654, 0xcba98765, 0xdcba9876, 0xedcba987,
    0xfedcba98, 0x0fedcba9, 0x10fedcba, 0x210fedcb, 0x3210fedc, 0x43210fed, 0x543210fe, 0x6543210f};
const std::vector<int64_t> kAwqWords = {
    0x75316420, 0x86427531, 0x97538642, 0xa8649753, 0xb975a864, 0xca86b975, 0xdb97ca86, 0xeca8db97,
    0xfdb9eca8, 0x0ecafdb9, 0x1fdb0eca, 0x20ec1fdb, 0x31fd20ec, 0x420e31fd, 0x531f420e, 0x6420531f};

Tensor words_of(const std::vector<int64_t>& words, const std::vector<int64_t>& shape) {
  return at::tensor(words, at::kLong).to(at::kInt).reshape(shape);
}

TEST(GptqWords, AreThoseOfOtherPrograms) {
  const Tensor fields = (at::arange(16).unsqueeze(1) + at::arange(8)).remainder(16);  // [in, out]
  const Tensor codes = (fields - 8).to(at::kChar).t().contiguous();
  EXPECT_TRUE(at::equal(pack_qweight(codes, 4, GptqLayout::kGptqV1), words_of(kGptqWords, {2, 8})));
  EXPECT_TRUE(at::equal(pack_qweight(codes, 4, GptqLayout::kAwq), words_of(kAwqWords, {16, 1})));
  for (const GptqLayout layout : {GptqLayout::kGptqV1, GptqLayout::kGptqV2, GptqLayout::kAwq})
    EXPECT_TRUE(at::equal(unpack_qweight(pack_qweight(codes, 4, layout), {8, 16}, 4, layout), codes));
}

TEST(GptqWords, ZeroPointsAreLessOneInTheFirstVersion) {
  const Tensor zeros = (at::arange(1, 9) - 8).to(at::kChar).reshape({8, 1});  // zero points 1 to 8
  const std::vector<std::pair<GptqLayout, int64_t>> words = {
      {GptqLayout::kGptqV1, 0x76543210}, {GptqLayout::kGptqV2, 0x87654321}, {GptqLayout::kAwq, 0x86427531}};
  for (const auto& [layout, word] : words) {
    EXPECT_TRUE(at::equal(pack_qzeros(zeros, 4, layout), words_of({word}, {1, 1})));
    EXPECT_TRUE(at::equal(unpack_qzeros(words_of({word}, {1, 1}), {8, 1}, 4, layout, "z"), zeros));
  }
  const Tensor lost = words_of({0xf6543210}, {1, 1});
  EXPECT_ERROR(unpack_qzeros(lost, {8, 1}, 4, GptqLayout::kGptqV1, "z"), ExitCode::kFailed,
               "z: has fields of 15, which stand for a zero point of 0 or of 16");
}

TEST(GptqWords, EveryWidthComesBack) {
  for (const int bits : {2, 3, 4, 8}) {
    const int64_t top = int64_t{1} << (bits - 1);
    const Tensor codes = at::arange(32 * 64).remainder(2 * top).sub(top).to(at::kChar).reshape({32, 64});
    for (const GptqLayout layout : {GptqLayout::kGptqV1, GptqLayout::kGptqV2}) {
      const Tensor words = pack_qweight(codes, bits, layout);
      EXPECT_EQ(words.sizes(), at::IntArrayRef({64 * bits / 32, 32}));
      EXPECT_TRUE(at::equal(unpack_qweight(words, {32, 64}, bits, layout), codes)) << bits;
    }
  }
}

class Gptq : public testing::ToyArtifacts {
 protected:
  Gptq() : ToyArtifacts("gptq") {}
};

class Awq : public testing::ToyArtifacts {
 protected:
  Awq() : ToyArtifacts("awq") {}
};

WeightScheme mxint(int bits) {
  WeightScheme scheme = groups(bits, kMxintGroup);
  scheme.format = NumberFormat::kMxint;
  scheme.half_scales = false;
  return scheme;
}

TEST_F(Gptq, SymmetricWeightsComputeTheSame) {
  for (const WeightScheme& scheme : {groups(4, 32), groups(8, 32), mxint(4), mxint(8)}) {
    SCOPED_TRACE(std::to_string(scheme.bits) + number_format_name(scheme.format));
    const ExportResult result = exported(wide_llama(), in(scheme));
    EXPECT_EQ(result.json["layers"], 14);
    EXPECT_TRUE(result.json["scales_sqnr_db"].is_null());
    expect_same_logits();
    EXPECT_EQ(quantization(), Json({{"quant_method", "gptq"},
                                    {"bits", scheme.bits},
                                    {"group_size", 32},
                                    {"sym", true},
                                    {"desc_act", false},
                                    {"checkpoint_format", "gptq"}}));
    const TensorMap tensors = stored();
    EXPECT_TRUE(
        (tensors.at(kQ + ".qzeros") == (scheme.bits == 4 ? 0x77777777 : 0x7f7f7f7f)).all().item<bool>());
    EXPECT_EQ(tensors.at(kQ + ".scales").scalar_type(), at::kHalf);
    EXPECT_TRUE(at::equal(tensors.at(kQ + ".g_idx"), at::arange(64, at::kInt).floor_divide(32).to(at::kInt)));
  }
}

TEST_F(Gptq, ScalesOfRowsAreRoundedToFloat16AndTheCostIsSaid) {
  WeightScheme whole = rows(4);
  whole.granularity = Granularity::kTensor;
  for (const WeightScheme& scheme : {rows(8), whole}) {
    const ExportResult result = exported(wide_llama(), in(scheme));
    EXPECT_EQ(quantization()["group_size"], -1);
    EXPECT_GT(result.json["scales_sqnr_db"], 60);
    EXPECT_NE(result.text.find("scales rounded to float16, at"), std::string::npos) << result.text;
    EXPECT_GT(sqnr_db(logits(open_model(directory_ / "q", {}, at::kCPU)), logits(opened())), 50);
  }
}

TEST_F(Gptq, ScalesThatFloat16DoesNotHoldAreAnErrorUnlessTheyStandForZeros) {
  const auto scaled = [](double first, double factor) {
    return [first, factor](Block& block) {
      for (Linear* linear : block.linears()) {
        Tensor w = linear->weight.values() * factor;
        w.slice(0, 0, 3).mul_(first);
        linear->weight.set(round_to_nearest(w, rows(8)));
      }
    };
  };
  exported(wide_llama(), scaled(0, 1));  // of which a scale of 2^-126 is left
  EXPECT_TRUE((stored().at(kQ + ".scales") > 0).all().item<bool>());
  EXPECT_TRUE(at::allclose(logits(open_model(directory_ / "q", {}, at::kCPU)), logits(opened()), 1e-2, 1e-2));
  for (const double first : {1e-9, 1e9}) {
    EXPECT_ERROR(exported(wide_llama(), scaled(first, 1)), ExitCode::kFailed,
                 "q_proj: has scales that float16 does not hold");
    EXPECT_FALSE(std::filesystem::exists(directory_ / "out"));
  }
}

TEST_F(Gptq, GroupsThatDoNotFillARowBecomeSmallerForAllLayers) {
  exported(wide_llama(), in(groups(4, 64)));  // 96 columns of down_proj
  expect_same_logits();
  EXPECT_EQ(quantization()["group_size"], 32);
}

TEST_F(Gptq, LayersInFloatAreThoseThatAreNotNamed) {
  const auto skip = [](Block& block) {
    in(groups(4, 32))(block);
    for (Linear* linear : block.linears()) {
      const bool first_o = linear->name == "model.layers.0.self_attn.o_proj";
      if (first_o || linear->name.ends_with("down_proj")) linear->weight.set(linear->weight.values());
    }
  };
  exported(wide_llama(), skip);
  expect_same_logits();
  EXPECT_EQ(
      quantization()["modules_in_block_to_quantize"],
      Json({{"gate_proj", "k_proj", "q_proj", "up_proj", "v_proj", "model.layers.1.self_attn.o_proj"}}));
}

TEST_F(Gptq, CorrectionsGoIntoAnAdapterBesideIt) {
  const ExportResult result = exported(wide_llama(), and_then(in(groups(4, 32)), correct));
  EXPECT_EQ(result.json["adapter"], directory_ / "out-adapter");
  EXPECT_EQ(read_json_file(directory_ / "out-adapter/adapter_config.json")["base_model_name_or_path"], "out");
  EXPECT_FALSE(opened().model->load_block(0)->linears().front()->correction);
}

TEST_F(Gptq, WhatItCannotHoldIsRefusedByNameWithAnAlternative) {
  WeightScheme nf4 = groups(4, kNf4Group);
  nf4.format = NumberFormat::kNf4;
  nf4.half_scales = false;
  const auto other_bits = [](Block& block) {
    Linear& o = *block.linears().at(3);
    o.weight.set(round_to_nearest(o.weight.values(), groups(8, 32)));
  };
  const auto rotate = [](Block& block) {
    block.site("qkv.input").transform.stages.emplace_back(make_hadamard(64));
  };
  const auto nothing = [](Block&) {};
  const std::vector<std::tuple<testing::Change, std::vector<std::string>>> refused = {
      {in(groups(4, 32, false)), {"q_proj: has zero points", "--format awq or compressed-tensors"}},
      {in(groups(8, 32, false)), {"q_proj: has zero points", "--format compressed-tensors, or"}},
      {in(groups(3, 32)), {"is in 3 bits, and GPTQ is loaded in 4 and 8"}},
      {in(nf4), {"q_proj: is in nf4"}},
      {and_then(in(groups(4, 32)), other_bits),
       {"o_proj: is stored otherwise than", "one scheme for all layers"}},
      {and_then(in(groups(4, 32)), rotate), {"qkv.input: has an online transform (hadamard(64))"}},
      {with_inputs(in(groups(4, 32)), ActivationQuantizer::per_token(8)),
       {"rounds activations", "--format compressed-tensors"}},
      {in(groups(4, 40)), {"64 columns do not divide into groups of 40"}},
      {nothing, {"has no layer in codes"}}};
  for (const auto& [change, words] : refused) {
    const std::string reason = refusal(wide_llama(), change);
    for (const std::string& word : words) EXPECT_NE(reason.find(word), std::string::npos) << reason;
  }
  const std::string mamba = refusal(testing::wide_mamba(), in(groups(4, 32)));
  EXPECT_NE(mamba.find("is a state-space model, of which nothing loads GPTQ"), std::string::npos) << mamba;
  const std::string narrow =
      refusal(testing::toy_llama({.hidden = 64, .heads = 4, .kv_heads = 2, .intermediate = 80}), in(rows(4)));
  EXPECT_NE(narrow.find("has shape [80, 64], and GPTQ needs multiples of 32"), std::string::npos) << narrow;
}

TEST_F(Awq, WeightsInFourBitsComputeTheSame) {
  for (const WeightScheme& scheme : {groups(4, 32, false), groups(4, 32), mxint(4)}) {
    exported(wide_llama(), in(scheme));
    expect_same_logits();
    EXPECT_EQ(quantization(), Json({{"quant_method", "awq"},
                                    {"bits", 4},
                                    {"group_size", 32},
                                    {"zero_point", true},
                                    {"version", "gemm"}}));
    EXPECT_FALSE(stored().contains(kQ + ".g_idx"));
  }
  EXPECT_TRUE((stored().at(kQ + ".qzeros") == int64_t{static_cast<int32_t>(0x88888888)}).all().item<bool>());
  const auto skip = [](Block& block) {
    in(groups(4, 32))(block);
    for (Linear* linear : block.linears()) {
      if (linear->name.ends_with("down_proj")) linear->weight.set(linear->weight.values());
    }
  };
  exported(wide_llama(), skip);
  expect_same_logits();
  EXPECT_EQ(quantization()["modules_to_not_convert"], Json({"down_proj"}));
}

TEST_F(Awq, OtherBitsAreRefused) {
  EXPECT_NE(refusal(wide_llama(), in(groups(8, 32))).find("is in 8 bits, and AWQ is loaded in 4"),
            std::string::npos);
}

TEST_F(Awq, WithoutZeroPointsTheyAreEight) {
  exported(wide_llama(), in(groups(4, 32)));
  const Tensor expected = logits(opened());
  set("/zero_point", false);
  EXPECT_TRUE(at::equal(logits(opened()), expected));
  TensorMap tensors = stored();
  std::erase_if(tensors, [](const auto& tensor) { return tensor.first.ends_with(".qzeros"); });
  store(tensors);
  EXPECT_TRUE(at::equal(logits(opened()), expected));
  exported(wide_llama(), in(groups(4, 32, false)));
  set("/zero_point", false);
  expect_refusal("q_proj.qzeros: has zero points other than 8");
}

// An AWQ checkpoint as GPTQ of either version.
TEST_F(Awq, TheSameCodesAsGptqAreRead) {
  exported(wide_llama(), in(groups(4, 32, false)));
  const Tensor expected = logits(opened());
  const TensorMap whole = stored();
  for (const GptqLayout layout : {GptqLayout::kGptqV1, GptqLayout::kGptqV2}) {
    TensorMap tensors = whole;
    for (const auto& [name, words] : whole) {
      const int64_t out = 8 * words.size(-1), lines = words.size(0);
      if (name.ends_with(".qweight")) {
        tensors[name] = pack_qweight(unpack_qweight(words, {out, lines}, 4, GptqLayout::kAwq), 4, layout);
      } else if (name.ends_with(".qzeros")) {
        Tensor zeros = unpack_qzeros(words, {out, lines}, 4, GptqLayout::kAwq, name);
        if (layout == GptqLayout::kGptqV1) zeros = at::maximum(zeros, at::full_like(zeros, -7));
        tensors[name] = pack_qzeros(zeros, 4, layout);
      }
    }
    store(tensors);
    Json json = config();
    json["quantization_config"] = gptq_config_json({layout, groups(4, 32, false)});
    directory_.write("out/config.json", json.dump());
    if (layout == GptqLayout::kGptqV2) {
      EXPECT_TRUE(at::equal(logits(opened()), expected));
    } else {
      EXPECT_GT(sqnr_db(expected, logits(opened())), 10);
    }
  }
}

class GptqReader : public Gptq {};

TEST_F(GptqReader, WhatOtherProgramsAddIsRead) {
  exported(wide_llama(), in(groups(4, 32)));
  const Tensor expected = logits(opened());
  set("/desc_act", true);  // as long as the groups lie in order
  set("/damp_percent", 0.05);
  set("/method", "gptq");
  set("/format", "GPTQ");
  set("/pack_dtype", "int32");
  set("/meta", Json({{"quantizer", {"gptqmodel:7.7.0"}}}));
  set("/dynamic", nullptr);
  set("/lm_head", false);
  set("/tokenizer", nullptr);
  TensorMap tensors = stored();
  tensors.erase(kQ + ".g_idx");
  store(tensors);
  EXPECT_TRUE(at::equal(logits(opened()), expected));
}

TEST_F(GptqReader, SettingsBesideAConfigurationThatHasNoneAreRead) {
  exported(wide_llama(), in(groups(4, 32)));
  const Tensor expected = logits(opened());
  Json plain = config();
  plain.erase("quantization_config");
  directory_.write("out/config.json", plain.dump());
  std::filesystem::rename(directory_ / "out/model.safetensors",
                          directory_ / "out/gptq_model-4bit-32g.safetensors");
  Json settings = {{"bits", 4},
                   {"group_size", 32},
                   {"damp_percent", 0.01},
                   {"desc_act", false},
                   {"static_groups", false},
                   {"sym", true},
                   {"true_sequential", true},
                   {"model_name_or_path", nullptr},
                   {"model_file_base_name", "gptq_model-4bit-32g"}};
  directory_.write("out/quantize_config.json", settings.dump());
  EXPECT_TRUE(at::equal(logits(opened()), expected));
  settings["bits"] = 5;
  directory_.write("out/quantize_config.json", settings.dump());
  EXPECT_ERROR(opened(), ExitCode::kFailed, "quantize_config.json.bits: 5 bits");
}

TEST_F(GptqReader, OnTheMetaDeviceSchemesAndShapesAreThere) {
  exported(wide_llama(), in(groups(4, 32)));
  const OpenModel shapes = open_any_model(directory_ / "out", {}, at::kMeta);
  const QuantizedTensor q = *shapes.model->load_block(0)->linears().front()->weight.quantized();
  EXPECT_TRUE(q.codes.is_meta());
  EXPECT_EQ(q.scheme.bits, 4);
  EXPECT_EQ(q.scale.sizes(), at::IntArrayRef({64, 2}));
}

TEST_F(GptqReader, WhatIsNotComputedIsRefusedByName) {
  exported(wide_llama(), in(groups(4, 32)));
  const std::string text = config().dump();
  const std::vector<std::tuple<std::string, Json, std::string>> refused = {
      {"/bits", 5, "bits: 5 bits; 2, 3, 4 and 8 are read"},
      {"/bits", "4", "bits"},
      {"/bits", 8, "scales: has shape [3, 64] where the scheme needs [2, 64]"},
      {"/group_size", 0, "group_size: is 0"},
      {"/group_size", -2, "group_size: is -2"},
      {"/group_size", int64_t{1} << 50, "group_size: is 1125899906842624"},
      {"/group_size", 16, "where the scheme needs [6, 64]"},
      {"/sym", "yes", "sym"},
      {"/checkpoint_format", "marlin", "checkpoint_format: \"marlin\" is not read"},
      {"/checkpoint_format", "gptq_v2", "qzeros: has zero points other than 8"},
      {"/checkpoint_format", 2, "checkpoint_format"},
      {"/is_marlin_format", true, "is_marlin_format: what it asks for is not computed"},
      {"/dynamic", Json({{"-:.*q_proj", Json::object()}}), "dynamic: what it asks for is not computed"},
      {"/rotation", "hadamard", "rotation: what it asks for"},
      {"/pack_dtype", "int16", "pack_dtype: \"int16\" is not read"},
      {"/method", "qqq", "method: is \"qqq\""},
      {"/desk_act", true, "did you mean \"desc_act\"?"}};
  for (const auto& [pointer, value, words] : refused) {
    SCOPED_TRACE(pointer + " = " + value.dump());
    directory_.write("out/config.json", text);
    set(pointer, value);
    expect_refusal(words);
  }
  const Json awq = gptq_config_json({GptqLayout::kAwq, groups(4, 32, false)});
  for (const char* version : {"gemv", "marlin"}) {
    Json other = awq;
    other["version"] = version;
    EXPECT_ERROR(read_gptq_config(other, "c"), ExitCode::kFailed, "c.version: \"" + std::string(version));
  }
}

TEST_F(GptqReader, DamagedTensorsAreErrors) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  exported(wide_llama(), in(groups(4, 32)));
  const TensorMap whole = stored();
  const Tensor weight = whole.at(kQ + ".qweight"), scale = whole.at(kQ + ".scales");
  const Tensor index = whole.at(kQ + ".g_idx"), zeros = whole.at(kQ + ".qzeros");
  const std::vector<std::tuple<std::string, Tensor, std::string>> damages = {
      {".qweight", weight.to(at::kLong), "codes are words, I32 of two dimensions"},
      {".qweight", weight.reshape({-1}), "codes are words, I32 of two dimensions"},
      {".qweight", weight.slice(0, 0, 4), "q_proj.scales: has shape [2, 64] where the scheme needs [1, 64]"},
      {".qweight", {}, kQ},
      {".weight", at::zeros({64, 64}), "is stored in float, and as " + kQ + ".qweight in codes"},
      {".scales", {}, "scales: the tensor is missing"},
      {".scales", at::full_like(scale, nan), "not finite, or negative"},
      {".scales", at::full_like(scale, -1), "or negative"},
      {".scales", scale.t(), "where the scheme needs [2, 64]"},
      {".scales", scale.to(at::kInt), "where the scheme needs floats"},
      {".qzeros", zeros.slice(1, 0, 4), "where the scheme needs I32 [2, 8]"},
      {".qzeros", zeros + 1, "has zero points other than 8"},
      {".qzeros", at::full_like(zeros, -1), "which stand for a zero point of 0 or of 16"},
      {".g_idx", index.flip(0), "in the order of their activations"},
      {".g_idx", index.slice(0, 1), "where the scheme needs I32 [64]"}};
  for (const auto& [end, tensor, words] : damages) {
    SCOPED_TRACE(end + ": " + words);
    TensorMap tensors = whole;
    tensors.erase(kQ + end);
    if (tensor.defined()) tensors[kQ + end] = tensor.contiguous();
    store(tensors);
    expect_refusal(words);
  }
  TensorMap tensors = whole;
  for (const char* end : {".qweight", ".qzeros", ".scales", ".g_idx"})
    tensors["model.embed_tokens" + std::string(end)] = whole.at(kQ + end);
  store(tensors);
  EXPECT_ERROR(opened(), ExitCode::kFailed, "embed_tokens");
}

}  // namespace
}  // namespace ptq
