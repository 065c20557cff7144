// What is written as NF4 of bitsandbytes, what is read of it, and what is refused.
#include <gtest/gtest.h>

#include <limits>

#include "export/bitsandbytes_source.h"
#include "toy_artifact.h"

namespace ptq {
namespace {

using testing::and_then;
using testing::correct;
using testing::groups;
using testing::in;
using testing::TensorMap;
using testing::with_inputs;

const std::string kQ = "model.layers.0.self_attn.q_proj";

// Of rows that blocks of 64 fill.
testing::ToyModel square_llama() {
  return testing::toy_llama({.hidden = 64, .heads = 4, .kv_heads = 2, .intermediate = 128});
}

TEST(Nf4Bytes, HaveTheFirstOfTwoCodesInTheHighBits) {
  const Tensor codes = at::arange(128, at::kLong).remainder(16).to(at::kChar).reshape({2, 64});
  const Tensor bytes = pack_nf4(codes);
  EXPECT_EQ(bytes.sizes(), at::IntArrayRef({64, 1}));
  EXPECT_EQ(bytes[0].item<int>(), 0x01);
  EXPECT_EQ(bytes[7].item<int>(), 0xef);
  EXPECT_TRUE(at::equal(unpack_nf4(bytes, {2, 64}), codes));
}

class Bitsandbytes : public testing::ToyArtifacts {
 protected:
  Bitsandbytes() : ToyArtifacts("bitsandbytes") {}
};

TEST_F(Bitsandbytes, Nf4ComputesTheSame) {
  const ExportResult result = exported(square_llama(), in(nf4_scheme()));
  EXPECT_EQ(result.json["layers"], 14);
  expect_same_logits();
  EXPECT_EQ(quantization()["llm_int8_skip_modules"], Json({"lm_head"}));
  const TensorMap tensors = stored();
  const Tensor state = tensors.at(kQ + ".weight.quant_state.bitsandbytes__nf4");
  const std::string text(state.data_ptr<uint8_t>(), state.data_ptr<uint8_t>() + state.numel());
  EXPECT_EQ(text, R"({"quant_type":"nf4","blocksize":64,"dtype":"float32","shape":[64,64]})");
  EXPECT_EQ(tensors.at(kQ + ".weight.absmax").sizes(), at::IntArrayRef({64}));
  EXPECT_EQ(tensors.at(kQ + ".weight.quant_map")[0].item<float>(), -1);
}

TEST_F(Bitsandbytes, MambaKeepsTheStepInFloat) {
  exported({testing::toy_mamba({.d_model = 64, .d_inner = 128}), {}}, in(nf4_scheme()));
  EXPECT_EQ(quantization()["llm_int8_skip_modules"], Json({"lm_head", "dt_proj"}));
  EXPECT_TRUE(at::allclose(logits(open_model(directory_ / "q", {}, at::kCPU)), logits(opened()), 1e-4, 1e-4));
}

TEST_F(Bitsandbytes, CorrectionsGoIntoAnAdapterBesideIt) {
  const ExportResult result = exported(square_llama(), and_then(in(nf4_scheme()), correct));
  EXPECT_EQ(result.json["adapter"], directory_ / "out-adapter");
  EXPECT_EQ(read_json_file(directory_ / "out-adapter/adapter_config.json")["target_modules"].size(), 7U);
}

TEST_F(Bitsandbytes, WhatItCannotHoldIsRefusedByNameWithAnAlternative) {
  const std::vector<std::tuple<testing::Change, std::string>> refused = {
      {in(groups(4, 32)), "q_proj: is in codes of integer, and bitsandbytes holds NF4"},
      {with_inputs(in(nf4_scheme()), ActivationQuantizer::per_token(8)), "--format compressed-tensors"}};
  for (const auto& [change, words] : refused) {
    const std::string reason = refusal(square_llama(), change);
    EXPECT_NE(reason.find(words), std::string::npos) << reason;
  }
  const std::string reason = refusal(testing::wide_llama(), in(nf4_scheme()));
  EXPECT_NE(reason.find("down_proj: has rows of 96 values"), std::string::npos) << reason;
}

TEST_F(Bitsandbytes, ScalesThatAreQuantizedAgainAreRead) {
  exported(square_llama(), in(nf4_scheme()));
  TensorMap tensors = stored();
  const Tensor absmax = tensors.at(kQ + ".weight.absmax");  // [64]
  const Tensor map = at::linspace(-1, 1, 256), outer = at::full({2}, 0.5);
  const Tensor codes = ((absmax - 0.25) / 0.5 * 127.5 + 127.5).round().clamp(0, 255).to(at::kByte);
  tensors[kQ + ".weight.absmax"] = codes;
  tensors[kQ + ".weight.nested_quant_map"] = map;
  tensors[kQ + ".weight.nested_absmax"] = outer;
  const auto with_state = [&](const Json& state) {
    const std::string text = state.dump();
    Tensor bytes = at::empty({static_cast<int64_t>(text.size())}, at::kByte);
    std::copy(text.begin(), text.end(), bytes.data_ptr<uint8_t>());
    tensors[kQ + ".weight.quant_state.bitsandbytes__nf4"] = bytes;
    store(tensors);
  };
  Json state = {{"quant_type", "nf4"},  {"blocksize", 64},        {"dtype", "float16"},
                {"shape", {64, 64}},    {"nested_blocksize", 32}, {"nested_dtype", "float32"},
                {"nested_offset", 0.25}};
  with_state(state);
  set("/bnb_4bit_use_double_quant", true);
  const OpenModel open = opened();
  const std::unique_ptr<Block> block = open.model->load_block(0);
  const Tensor scale = block->linears().front()->weight.quantized()->scale;
  const Tensor expected = map.index({codes.to(at::kLong)}) * 0.5 + 0.25;
  EXPECT_TRUE(at::allclose(scale.flatten(), expected, 0, 1e-7));
  EXPECT_EQ(logits(open).size(-1), 50);
  state["nested_blocksize"] = 16;
  with_state(state);
  expect_refusal("nested_absmax: is F32 [2] where the scheme needs F32 [4]");
  state["nested_blocksize"] = 0;
  with_state(state);
  expect_refusal("nested_blocksize: is 0");
}

TEST(Nf4State, WhatIsNotReadIsRefusedByName) {
  const auto read = [](const std::string& text) { return read_nf4_state(text, "s"); };
  EXPECT_EQ(read(nf4_state_text(3, 64, "bfloat16")).shape, (std::vector<int64_t>{3, 64}));
  EXPECT_ERROR(read("{"), ExitCode::kFailed, "s");
  EXPECT_ERROR(read(std::string(70'000, ' ')), ExitCode::kFailed, "70000 bytes; at most 65536");
  const Json whole = parse_json(nf4_state_text(64, 64, "float16"), "state");
  const std::vector<std::tuple<std::string, Json, std::string>> refused = {
      {"quant_type", "fp4", "s.quant_type: \"fp4\" is not read"},
      {"blocksize", 128, "s.blocksize: blocks of 128 are not read; of 64 are"},
      {"shape", nullptr, "\"shape\" is missing"},
      {"shape", Json({64}), "s.shape: is [64]; a weight has two dimensions"},
      {"shape", Json({-1, 64}), "s.shape: is [-1,64]"},
      {"shape", Json({64.5, 64}), "s.shape: is [64.5,64]"},
      {"shape", Json({64, int64_t{1} << 40}), "s.shape: is [64,"},
      {"shape", Json({64, 96}), "rows of 96 values, between which blocks of 64 lie"},
      {"nested_blocksize", -1, "s.nested_blocksize: is -1"},
      {"nestd", 1, "nestd"}};
  for (const auto& [key, value, words] : refused) {
    Json json = whole;
    json[key] = value;
    EXPECT_ERROR(read(json.dump()), ExitCode::kFailed, words);
  }
}

TEST_F(Bitsandbytes, WhatIsNotComputedIsRefusedByName) {
  exported(square_llama(), in(nf4_scheme()));
  const std::string text = config().dump();
  const std::vector<std::tuple<std::string, Json, std::string>> refused = {
      {"/load_in_4bit", false, "load_in_4bit: is not true"},
      {"/load_in_8bit", true, "load_in_8bit: is true; false is read"},
      {"/bnb_4bit_quant_type", "fp4", "\"fp4\" is not read"},
      {"/bnb_4bit_quant_storage", "bfloat16", "bnb_4bit_quant_storage: is \"bfloat16\"; \"uint8\" is read"},
      {"/llm_int8_skip_module", 1, "did you mean \"llm_int8_skip_modules\"?"}};
  for (const auto& [pointer, value, words] : refused) {
    SCOPED_TRACE(pointer + " = " + value.dump());
    directory_.write("out/config.json", text);
    set(pointer, value);
    expect_refusal(words);
  }
}

TEST_F(Bitsandbytes, DamagedTensorsAreErrors) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  exported(square_llama(), in(nf4_scheme()));
  const TensorMap whole = stored();
  const Tensor absmax = whole.at(kQ + ".weight.absmax"), map = whole.at(kQ + ".weight.quant_map");
  const Tensor state = whole.at(kQ + ".weight.quant_state.bitsandbytes__nf4");
  const std::vector<std::tuple<std::string, Tensor, std::string>> damages = {
      {".weight", {}, "q_proj.weight: the tensor is missing"},
      {".weight", whole.at(kQ + ".weight").slice(0, 1), "where the scheme needs U8 [2048, 1]"},
      {".weight.absmax", {}, "absmax: the tensor is missing"},
      {".weight.absmax", absmax.slice(0, 1), "where the scheme needs F32 [64]"},
      {".weight.absmax", absmax.to(at::kHalf), "where the scheme needs F32 [64]"},
      {".weight.absmax", at::full_like(absmax, nan), "64 of 64 scales are not finite, or negative"},
      {".weight.absmax", absmax - 1, "or negative"},
      {".weight.quant_map", map + 1, "is not the table of NF4"},
      {".weight.quant_map", map.slice(0, 1), "where the scheme needs F32 [16]"},
      {".weight.quant_state.bitsandbytes__nf4", {}, "bitsandbytes__nf4: the tensor is missing"},
      {".weight.quant_state.bitsandbytes__fp4", state, "is of a number format that is not read"},
      {".weight.quant_state.bitsandbytes__nf4", state.to(at::kInt), "it is text in U8 of one dimension"},
      {".weight.quant_state.bitsandbytes__nf4", state.slice(0, 1), "quant_state"}};
  for (const auto& [end, tensor, words] : damages) {
    SCOPED_TRACE(end + ": " + words);
    TensorMap tensors = whole;
    tensors.erase(kQ + end);
    if (tensor.defined()) tensors[kQ + end] = tensor.contiguous();
    store(tensors);
    expect_refusal(words);
  }
}

}  // namespace
}  // namespace ptq
