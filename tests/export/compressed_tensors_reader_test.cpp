// compressed-tensors that other programs wrote, and such as nobody should have written.
#include <gtest/gtest.h>

#include <limits>

#include "../base/expect_error.h"
#include "export/packed_words.h"
#include "ptq/artifact/source_weights.h"
#include "toy_artifact.h"

namespace ptq {
namespace {

using testing::groups;
using testing::in;
using testing::rows;
using testing::TensorMap;
using testing::wide_llama;
using testing::with_inputs;

const std::string kQ = "model.layers.0.self_attn.q_proj";
const std::string kK = "model.layers.0.self_attn.k_proj";

class CompressedTensorsReader : public testing::ToyArtifacts {};

const std::string kGroup = "/config_groups/group_0";

TEST_F(CompressedTensorsReader, WhatOtherProgramsAddIsRead) {
  exported(wide_llama(), with_inputs(in(rows(8)), ActivationQuantizer::per_token(8)));
  const Tensor expected = logits(opened());
  set("/version", "0.12.2");
  set("/global_compression_ratio", 1.5);
  set("/transform_config", Json::object());
  set("/sparsity_config", Json::object());
  set(kGroup + "/weights/observer", "minmax");
  set(kGroup + "/weights/observer_kwargs", Json::object());
  set(kGroup + "/weights/block_structure", nullptr);
  set(kGroup + "/weights/actorder", "static");
  set(kGroup + "/weights/strategy", nullptr);
  set(kGroup + "/weights/group_size", -1);
  set(kGroup + "/input_activations/observer", nullptr);
  set(kGroup + "/format", nullptr);
  TensorMap tensors = stored();
  tensors[kQ + ".weight_zero_point"] = at::zeros({64, 1}, at::kChar);  // of a symmetric scheme
  store(tensors);
  EXPECT_TRUE(at::equal(logits(opened()), expected));
}

TEST_F(CompressedTensorsReader, ScalesMayBeBFloat16AndCodesTheLeast) {
  exported(wide_llama(), with_inputs(in(rows(8)), ActivationQuantizer::per_token(8)));
  TensorMap tensors = stored();
  Tensor& codes = tensors.at(kQ + ".weight");
  codes[0].fill_(-128);
  tensors.at(kQ + ".weight_scale") = tensors.at(kQ + ".weight_scale").to(at::kBFloat16);
  store(tensors);
  const OpenModel open = opened();
  const std::unique_ptr<Block> block = open.model->load_block(0);
  const Linear& linear = *block->linears().front();
  const Tensor scale = tensors.at(kQ + ".weight_scale").to(at::kFloat);
  EXPECT_TRUE(at::equal(linear.weight.values(), codes.to(at::kFloat) * scale));
  const Tensor x = at::linspace(-2, 3, 64).reshape({1, 1, 64});
  const Activation rounded = block->site("qkv.input").quantizer(x);
  const Tensor y = rounded.dequantize().matmul(linear.weight.values().t());
  EXPECT_TRUE(at::allclose(linear(rounded), y, 1e-5, 1e-5));
}

TEST_F(CompressedTensorsReader, AnExactNameGoesBeforeAnExpressionAndThatBeforeTheClass) {
  exported(wide_llama(), in(rows(8)));
  const Tensor expected = logits(opened());
  const Json eights = config()["quantization_config"]["config_groups"]["group_0"];
  Json fours = eights;
  fours["weights"]["num_bits"] = 4;
  fours["targets"] = {"re:.*self_attn"};  // matches the beginning of a name
  set("/config_groups/group_1", fours);
  Json exact = eights;
  exact["targets"] = Json::array();
  for (const char* layer : {"0", "1"}) {
    for (const char* linear : {"q_proj", "k_proj", "v_proj", "o_proj"})
      exact["targets"].push_back(std::string("model.layers.") + layer + ".self_attn." + linear);
  }
  set("/config_groups/group_2", exact);
  EXPECT_TRUE(at::equal(logits(opened()), expected));
  set("/config_groups/group_2", nullptr);
  expect_refusal("expected an object");
  set("/config_groups/group_2", fours);
  expect_refusal("self_attn");
  fours["weights"]["num_bits"] = 5;
  set("/config_groups/group_2", fours);
  expect_refusal("group_1 and group_2 claim model.layers.0.self_attn");
}

TEST_F(CompressedTensorsReader, OnTheMetaDeviceSchemesAndShapesAreThere) {
  exported(wide_llama(), in(groups(4, 32, false)));
  const OpenModel shapes = open_any_model(directory_ / "out", {}, at::kMeta);
  const std::unique_ptr<Block> block = shapes.model->load_block(0);
  const QuantizedTensor& q = *block->linears().front()->weight.quantized();
  EXPECT_TRUE(q.codes.is_meta());
  EXPECT_EQ(q.scheme.bits, 4);
  EXPECT_EQ(q.zero.sizes(), at::IntArrayRef({64, 2}));
}

TEST_F(CompressedTensorsReader, WeightsAreThoseOfTheArtifactItWasMadeOf) {
  exported(wide_llama(), in(groups(4, 32)));
  ASSERT_NE(find_foreign_format(directory_ / "out"), nullptr);
  EXPECT_EQ(find_foreign_format(directory_ / "q"), nullptr);
  EXPECT_EQ(find_foreign_format(directory_ / "m"), nullptr);
  const auto ours = open_checkpoint(directory_ / "q");
  const OpenModel theirs = open_any_model(directory_ / "out", {}, at::kCPU);
  SourceWeights a(*ours), b(theirs);
  EXPECT_TRUE(b.quantized());
  EXPECT_EQ(a.names(), b.names());
  for (const std::string& name : a.names()) {
    EXPECT_TRUE(at::equal(a.read(name).value, b.read(name).value)) << name;
    EXPECT_EQ(a.read(name).bits == 4, b.read(name).bits == 4) << name;
  }
}

TEST_F(CompressedTensorsReader, WhatIsNotComputedIsRefusedByName) {
  exported(wide_llama(), with_inputs(in(groups(4, 32)), ActivationQuantizer::per_token(8)));
  const std::string text = config().dump();
  const std::string weights = kGroup + "/weights", inputs = kGroup + "/input_activations";
  const std::vector<std::tuple<std::string, Json, std::string>> refused = {
      {weights + "/num_bits", 1, "group_0.weights.num_bits: 1 bits"},
      {weights + "/num_bits", int64_t{1} << 40, "num_bits: 1099511627776 bits"},
      {weights + "/num_bits", "4", "num_bits"},
      {weights + "/num_bits", 5, "where the scheme needs I32 [64, 15]"},
      {weights + "/type", "float", "type: \"float\" is not read"},
      {weights + "/type", 1, "type"},
      {weights + "/symmetric", "yes", "symmetric"},
      {weights + "/symmetric", false, "weight_zero_point: the tensor is missing"},
      {weights + "/strategy", "block", "\"block\" is not read of weights"},
      {weights + "/strategy", "token", "\"token\" is not read of weights"},
      {weights + "/group_size", 0, "group_size: is 0"},
      {weights + "/group_size", -5, "group_size: is -5"},
      {weights + "/group_size", 48, "64 columns do not divide into groups of 48"},
      {weights + "/group_size", 64, "96 columns do not divide into groups of 64"},
      {weights + "/dynamic", true, "weights.dynamic: is true"},
      {weights + "/dynamic", "local", "dynamic"},
      {weights + "/actorder", "group", "in the order of their activations"},
      {weights + "/block_structure", Json({128, 128}), "block_structure"},
      {weights + "/sparsity", 2, "sparsity"},
      {weights, nullptr, "a group without weights"},
      {weights, Json::array(), "group_0.weights"},
      {inputs + "/strategy", "tensor", "\"tensor\" with \"dynamic\": true is not read of inputs"},
      {inputs + "/dynamic", false, "\"token\" with \"dynamic\": false is not read of inputs"},
      {inputs + "/num_bits", 16, "input_activations.num_bits: 16 bits"},
      {kGroup + "/output_activations", Json({{"num_bits", 8}}), "outputs that are rounded"},
      {kGroup + "/format", "nvfp4-pack-quantized", "\"nvfp4-pack-quantized\" is not read"},
      {kGroup + "/format", "int-quantized", "is packed, but its config group is int-quantized"},
      {kGroup + "/format", 3, "format"},
      {kGroup + "/tragets", 3, "did you mean \"targets\"?"},
      {kGroup + "/targets", "Linear", "expected a list of names, found string"},
      {kGroup + "/targets", Json({1}), "expected a name, found number"},
      {kGroup + "/targets", Json({"re:("}), "does not compile"},
      {kGroup + "/targets", Json::array(), "no config group of quantization_config claims"},
      {kGroup + "/targets", Json({"re:.*(mlp|q_proj)"}), "no config group of quantization_config claims"},
      {kGroup, Json({"Linear"}), "names a preset scheme"},
      {"/config_groups", Json::object(), "expected an object of groups"},
      {"/config_groups", Json::array(), "expected an object of groups"},
      {"/ignore", "lm_head", "ignore: expected a list of names"},
      {"/ignore", Json({"re:.*q_proj"}), "no config group of quantization_config claims " + kQ},
      {"/quantization_status", "frozen", "\"frozen\"; \"compressed\" is read"},
      {"/kv_cache_scheme", Json({{"num_bits", 8}}), "kv_cache_scheme: what it asks for is not computed"},
      {"/transform_config", Json({{"config_groups", {{"R1", 1}}}}), "transform_config"},
      {"/sparsity_config", Json({{"format", "sparse-24-bitmask"}}), "sparsity_config"},
      {"/anything", 1, "anything"}};
  for (const auto& [pointer, value, words] : refused) {
    SCOPED_TRACE(pointer + " = " + value.dump());
    directory_.write("out/config.json", text);
    set(pointer, value);
    expect_refusal(words);
  }
}

TEST_F(CompressedTensorsReader, DamagedTensorsAreErrors) {
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  exported(wide_llama(), with_inputs(in(groups(4, 32, false)), ActivationQuantizer::fixed(0.05, 8)));
  const TensorMap whole = stored();
  const Tensor scale = whole.at(kQ + ".weight_scale"), zero = whole.at(kQ + ".weight_zero_point");
  const auto filled = [&](double value) { return at::full_like(scale, value); };
  const std::vector<std::tuple<std::string, Tensor, std::string>> damages = {
      {".weight_scale", filled(nan), "128 of 128 scales are not finite, or negative"},
      {".weight_scale", filled(inf), "not finite"},
      {".weight_scale", filled(-1), "or negative"},
      {".weight_scale", {}, "weight_scale: the tensor is missing"},
      {".weight_scale", scale.slice(1, 0, 1), "where the scheme needs floats [64, 2]"},
      {".weight_scale", scale.reshape({-1}), "where the scheme needs floats [64, 2]"},
      {".weight_scale", scale.to(at::kInt), "I32"},
      {".weight_zero_point", {}, "weight_zero_point: the tensor is missing"},
      {".weight_zero_point", zero.slice(0, 0, 4), "where the scheme needs I32 [8, 2]"},
      {".weight_zero_point", zero.to(at::kChar), "where the scheme needs I32 [8, 2]"},
      {".weight_shape", {}, "weight_shape: the tensor is missing"},
      {".weight_shape", at::tensor({64, 65}, at::kLong), "where the scheme needs I32 [64, 9]"},
      {".weight_shape", at::tensor({-64, 64}, at::kLong), "says [-64, 64]"},
      {".weight_shape", at::tensor({int64_t{64}, INT64_MAX}, at::kLong), "says [64, 9223372036854775807]"},
      {".weight_shape", at::tensor({64}, at::kLong), "where I64 [2] is needed"},
      {".weight_shape", at::tensor({64., 64.}, at::kFloat), "where I64 [2] is needed"},
      {".weight_shape", at::tensor({64, 63}, at::kLong), "63 columns do not divide into groups of 32"},
      {".weight_packed", whole.at(kQ + ".weight_packed").to(at::kLong), "where the scheme needs I32 [64, 8]"},
      {".weight_packed", whole.at(kQ + ".weight_packed").reshape({-1}), "codes have two dimensions"},
      {".weight_packed", {}, kQ},
      {".weight", at::zeros({64, 64}), "is not packed, but its config group is pack-quantized"},
      {".weight_g_idx", at::zeros({64}, at::kInt), "in the order of their activations"},
      {".input_scale", {}, "input_scale: the tensor is missing"},
      {".input_scale", at::tensor({nan}, at::kFloat), "1 of 1 scales are not positive and finite"},
      {".input_scale", at::tensor({0.0}, at::kFloat), "not positive"},
      {".input_scale", at::tensor({0.06}, at::kFloat), "rounds its input otherwise than " + kQ},
      {".input_scale", at::tensor({0.05, 0.05}, at::kFloat), "where the scheme needs floats [1]"},
      {".input_zero_point", at::ones({1}, at::kChar), "has zero points, and its scheme is symmetric"}};
  for (const auto& [end, tensor, words] : damages) {
    SCOPED_TRACE(end + ": " + words);
    TensorMap tensors = whole;
    tensors.erase(kQ + end);
    if (tensor.defined()) tensors[kQ + end] = tensor;
    store(tensors);
    expect_refusal(words);
  }
}

TEST_F(CompressedTensorsReader, CodesThatTheBitsDoNotHoldAreErrors) {
  exported(wide_llama(), with_inputs(in(rows(8)), ActivationQuantizer::per_token(8)));
  set(kGroup + "/weights/num_bits", 4);
  expect_refusal("has codes from");
}

TEST_F(CompressedTensorsReader, LinearsMustBeStoredAsTheConfigurationSays) {
  exported(wide_llama(), in(rows(8)));
  const TensorMap whole = stored();
  TensorMap tensors = whole;
  for (const char* end : {".weight_packed", ".weight_scale", ".weight_shape"}) tensors.erase(kQ + end);
  tensors[kQ + ".weight"] = at::zeros({64, 64});
  store(tensors);
  expect_refusal(kQ + ": is stored in float, but quantization_config");
  // One of those that read the same values in float is no difference while these are not rounded.
  set("/ignore", Json({"lm_head", "re:.*layers\\.0\\..*q_proj$"}));
  EXPECT_EQ(logits(opened()).size(-1), 50);
  tensors = whole;
  tensors["model.embed_tokens.weight_packed"] = whole.at(kQ + ".weight_packed").slice(0, 0, 50);
  tensors["model.embed_tokens.weight_shape"] = at::tensor({50, 64}, at::kLong);
  tensors["model.embed_tokens.weight_scale"] = whole.at(kQ + ".weight_scale").slice(0, 0, 50);
  tensors.erase("model.embed_tokens.weight");
  store(tensors);
  set("/ignore", Json({"lm_head"}));
  EXPECT_ERROR(opened(), ExitCode::kFailed, "embed_tokens.weight: is stored in codes, and is no linear");
}

TEST_F(CompressedTensorsReader, LinearsOfOneInputMustRoundItAlike) {
  exported(wide_llama(), with_inputs(in(rows(8)), ActivationQuantizer::per_token(8)));
  TensorMap tensors = stored();
  tensors[kK + ".weight"] = tensors.at(kK + ".weight").to(at::kFloat);
  tensors.erase(kK + ".weight_scale");
  store(tensors);
  set("/ignore", Json({"lm_head", kK}));
  expect_refusal(kK + ": rounds its input otherwise than " + kQ);
}

TEST_F(CompressedTensorsReader, UnreadTensorsAreErrors) {
  exported(wide_llama(), in(rows(8)));
  TensorMap tensors = stored();
  tensors["model.layers.0.self_attn.lora_A"] = at::zeros({2, 2});
  store(tensors);
  expect_refusal("lora_A");
}

}  // namespace
}  // namespace ptq
