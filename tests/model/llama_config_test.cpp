// Llama-like transformers: what is read from a checkpoint and its configuration, and what is refused.
#include <gtest/gtest.h>

#include "../base/expect_error.h"
#include "../support/toy_llama.h"
#include "../support/toy_source.h"
#include "model/llama_config.h"

namespace ptq {
namespace {

using testing::Source;
using testing::toy_llama;
using testing::ToyModel;

const std::string kLayer = "model.layers.0.";

// The configuration of the toy with some fields replaced; a null removes one.
Json changed(Json config, const Json& fields) {
  for (const auto& [key, value] : fields.items()) {
    if (value.is_null()) {
      config.erase(key);
    } else {
      config[key] = value;
    }
  }
  return config;
}

LlamaConfig read_toy(const testing::ToyLlama& sizes, const Json& fields = Json::object()) {
  const ToyModel toy = toy_llama(sizes);
  return read_llama_config(*Source(toy.tensors, changed(toy.config, fields)));
}

// The fields that make it a member of the family.
Json declared(const char* type) {
  ToyModel toy = toy_llama({});
  declare(toy, type);
  return {{"architectures", toy.config["architectures"]}, {"model_type", type}};
}

std::vector<std::string> warnings_of(const Json& fields, const testing::ToyLlama& sizes = {}) {
  return read_toy(sizes, fields).warnings;
}

// Errors of the usual toy with a changed configuration: each must contain the words.
void expect_refused(const std::vector<std::pair<Json, std::string>>& cases,
                    const testing::ToyLlama& sizes = {}) {
  for (const auto& [fields, words] : cases) {
    SCOPED_TRACE(fields.dump());
    EXPECT_ERROR(read_toy(sizes, fields), ExitCode::kFailed, words);
  }
}

Json rope_of(const Json& parameters) {
  return {{"rope_parameters", parameters}};
}

TEST(LlamaConfig, SizesComeFromShapesAndTheConfiguration) {
  const LlamaConfig config = read_toy({64, 4, 2, 172, 3, 33});
  EXPECT_EQ(config.hidden, 64);
  EXPECT_EQ(config.heads, 4);
  EXPECT_EQ(config.kv_heads, 2);
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(config.intermediate, 172);
  EXPECT_EQ(config.num_layers, 3);
  EXPECT_EQ(config.vocab_size, 33);
  EXPECT_EQ(config.context_limit, 128);
  EXPECT_EQ(config.norm_eps, 1e-5);
  EXPECT_EQ(config.start_token.id(), 1);
  EXPECT_FALSE(config.qk_norm);
  EXPECT_EQ(config.windows, std::vector<int64_t>(3, 0));
  EXPECT_EQ(read_toy({36, 3, 3, 96}).head_dim, 12);
  EXPECT_EQ(read_toy({24, 2, 1, 40, 1, 50, 8}).head_dim, 8);
  EXPECT_EQ(read_toy({64, 4, 2}, {{"num_key_value_heads", nullptr}}).kv_heads, 2);
}

TEST(LlamaConfig, StartTokenMayBeAbsentOrAList) {
  EXPECT_EQ(read_toy({}, {{"bos_token_id", nullptr}}).start_token.id(), 0);
  EXPECT_EQ(read_toy({}, {{"bos_token_id", {7, 8}}}).start_token.id(), 7);
  for (const Json& bad : {Json(50), Json(-1), Json::array(), Json({"a"}), Json(1.5)}) {
    const StartToken token = read_toy({}, {{"bos_token_id", bad}}).start_token;
    EXPECT_ERROR(token.id(), ExitCode::kFailed, "bos_token_id: is " + bad.dump());
  }
}

TEST(LlamaConfig, MissingFieldsAreNamed) {
  const ToyModel toy = toy_llama({});
  const std::string all =
      "num_attention_heads, rms_norm_eps, max_position_embeddings, rope_theta are missing";
  EXPECT_ERROR(Source(toy.tensors).model(), ExitCode::kFailed, all);
  EXPECT_ERROR(Source(toy.tensors).model(), ExitCode::kFailed, "--config");
  for (const char* key : {"num_attention_heads", "rms_norm_eps", "max_position_embeddings"})
    expect_refused({{{{key, nullptr}}, std::string(key) + " is missing"}});
}

TEST(LlamaConfig, SizesThatDisagreeWithTheShapesAreErrorsWithBoth) {
  for (const auto& [key, shape] : std::vector<std::pair<const char*, const char*>>{
           {"hidden_size", "24"}, {"intermediate_size", "40"}, {"vocab_size", "50"}}) {
    expect_refused({{{{key, 77}}, std::string(key) + ": is 77, but the tensors' shapes say " + shape}});
  }
}

TEST(LlamaConfig, HeadsThatDoNotDivideAreErrorsWithBothNumbers) {
  expect_refused(
      {{{{"num_attention_heads", 5}, {"num_key_value_heads", 1}},
        "hidden_size is 24, which is no multiple of num_attention_heads, 5"},
       {{{"num_attention_heads", 3}, {"num_key_value_heads", 2}},
        "num_attention_heads is 3, which is no multiple of num_key_value_heads, 2"},
       {{{"num_key_value_heads", 2}}, "num_key_value_heads: is 2, but the tensors' shapes say 1"},
       {{{"head_dim", 8}}, "head_dim: is 8, but q_proj has 24 rows for 2 heads"},
       {{{"num_attention_heads", 5}, {"head_dim", 12}}, "24, which is no multiple of num_attention_heads, 5"},
       {{{"num_attention_heads", 8}}, "3 channels cannot be rotated"}});
  const ToyModel toy = toy_llama({36, 3, 2, 40, 1, 50, 12});
  EXPECT_ERROR(Source(toy.tensors, changed(toy.config, {{"num_key_value_heads", nullptr}})).model(),
               ExitCode::kFailed, "num_attention_heads is 3, which is no multiple of num_key_value_heads, 2");
}

TEST(LlamaConfig, HostileNumbersAreErrors) {
  for (const char* key :
       {"num_attention_heads", "num_key_value_heads", "head_dim", "max_position_embeddings"}) {
    for (const Json& value : {Json(0), Json(-1), Json(9e15), Json(1e300), Json(2.5), Json("2"), Json(true)})
      expect_refused({{{{key, value}}, key}});
  }
  for (const Json& value : {Json(0), Json(-1e-5), Json(1), Json(1e300), Json("x")})
    expect_refused({{{{"rms_norm_eps", value}}, "rms_norm_eps"}});
}

TEST(LlamaConfig, UnsupportedChoicesAreErrors) {
  expect_refused(
      {{{{"hidden_act", "gelu"}}, "hidden_act: \"gelu\" is not supported"},
       {{{"partial_rotary_factor", 0.5}}, "partial_rotary_factor: is 0.5"},
       {{{"attention_bias", true}}, "q_proj.bias: the tensor is missing"},
       {{{"mlp_bias", true}}, "gate_proj.bias: the tensor is missing"},
       {declared("qwen2"), "q_proj.bias: the tensor is missing"},
       {declared("qwen3"), "q_norm.weight: the tensor is missing"},
       {{{"model_type", "mistral"}}, "calls the model a LlamaForCausalLM and a MistralForCausalLM"},
       {changed(declared("mistral"), {{"attention_bias", true}}),
        "attention_bias: is true, but a MistralForCausalLM has no such biases"},
       {changed(declared("mistral"), {{"mlp_bias", true}}), "mlp_bias: is true"}});
  expect_refused({{declared("llama"), "a LlamaForCausalLM has no such tensor"}}, {.qk_norm = true});
  EXPECT_NO_THROW(read_toy({}, {{"hidden_act", "swish"}}));
}

TEST(LlamaConfig, KeysThatChangeTheComputationAreRefusedUnlessNeutral) {
  for (const auto& [key, value, neutral] :
       std::vector<std::tuple<const char*, Json, Json>>{{"attn_logit_softcapping", 50.0, 0},
                                                        {"is_causal", false, true},
                                                        {"final_logit_softcapping", 30, 0.0},
                                                        {"logit_scale", 0.0625, 1},
                                                        {"embedding_multiplier", 12, 1.0},
                                                        {"residual_multiplier", 0.22, 1},
                                                        {"attention_multiplier", 0.01, false},
                                                        {"logits_scaling", 8, 1},
                                                        {"scale_embedding", true, false},
                                                        {"rotary_pct", 0.25, 1.0},
                                                        {"qk_layernorm", true, false},
                                                        {"num_experts", 8, 0},
                                                        {"num_local_experts", 8, 1},
                                                        {"no_rope_layers", {0, 1}, Json::array()},
                                                        {"clip_qkv", 6, false},
                                                        {"query_pre_attn_scalar", 256, false},
                                                        {"position_embedding_type", "alibi", "rope"},
                                                        {"rope_interleaved", true, false},
                                                        {"use_mrope", true, false},
                                                        {"attention_chunk_size", 64, false},
                                                        {"norm_type", "layer_norm", "rms_norm"},
                                                        {"is_encoder_decoder", true, false},
                                                        {"text_config", {{"a", 1}}, Json::object()}}) {
    expect_refused({{{{key, value}},
                     std::string("config.json: ") + key + ": is " + value.dump() +
                         ", which changes what the model computes"}});
    EXPECT_EQ(warnings_of({{key, neutral}}), std::vector<std::string>()) << key;
  }
}

TEST(LlamaConfig, KeysOfRealConfigurationsHaveNoWarning) {
  // What transformers 4 wrote into the configurations of Llama 2 and 3, SmolLM2, Mistral and Qwen2.
  const Json fields = {{"_name_or_path", "meta-llama/Llama-2-7b-hf"},
                       {"_attn_implementation_autoset", true},
                       {"attention_dropout", 0.1},
                       {"eos_token_id", {1, 2}},
                       {"pad_token_id", 0},
                       {"initializer_range", 0.02},
                       {"is_llama_config", true},
                       {"rope_interleaved", false},
                       {"max_sequence_length", 2048},
                       {"max_window_layers", 21},
                       {"sliding_window", nullptr},
                       {"use_sliding_window", false},
                       {"use_mrope", false},
                       {"pretraining_tp", 1},
                       {"output_router_logits", false},
                       {"head_dim", nullptr},
                       {"quantization_config", nullptr},
                       {"torch_dtype", "bfloat16"},
                       {"transformers_version", "4.40.0"},
                       {"transformers.js_config", {{"dtype", "q4"}}},
                       {"unsloth_fixed", true},
                       {"use_cache", true},
                       {"temperature", 0.6},
                       {"top_p", 0.9},
                       {"id2label", {{"0", "LABEL_0"}}},
                       {"task_specific_params", {{"a", 1}}}};
  EXPECT_EQ(warnings_of(fields), std::vector<std::string>());
  EXPECT_EQ(warnings_of({{"some_new_thing", 2}}).size(), 1U);
}

TEST(LlamaConfig, BiasesStoredAgainstTheConfigurationAreErrors) {
  const testing::ToyLlama with = {.biases = true};
  expect_refused(
      {{{{"attention_bias", false}},
        "config.json: attention_bias: is false, but "
        "model.layers.0.self_attn.q_proj.bias is stored"},
       {{{"attention_bias", nullptr}}, "attention_bias: is not stated, which means false"},
       {{{"mlp_bias", false}}, "mlp_bias: is false, but model.layers.0.mlp.gate_proj.bias is stored"}},
      with);
  // Without a declared architecture the tensors tell.
  const LlamaConfig config = read_toy(with, {{"architectures", nullptr},
                                             {"model_type", nullptr},
                                             {"attention_bias", nullptr},
                                             {"rope_theta", 1e4}});
  EXPECT_TRUE(config.qkv_bias && config.o_bias && config.mlp_bias);
  ToyModel qwen = toy_llama({});
  make_qwen2(qwen);
  const LlamaConfig read = read_llama_config(*Source(qwen.tensors, qwen.config));
  EXPECT_TRUE(read.qkv_bias && !read.o_bias && !read.mlp_bias);
}

TEST(LlamaConfig, LayersThatAreNotThereAreSaid) {
  ToyModel toy = toy_llama({.layers = 4});
  toy.config["num_hidden_layers"] = 5;
  EXPECT_ERROR(Source(toy.tensors, toy.config).model(), ExitCode::kFailed,
               "num_hidden_layers: is 5, but the checkpoint has the layers 0 to 3 (model.layers.*)");
  toy.config["num_hidden_layers"] = 4;
  toy.tensors.erase("model.layers.1.mlp.up_proj.weight");
  EXPECT_ERROR(Source(toy.tensors, toy.config).model()->load_block(1), ExitCode::kFailed,
               "model.layers.1.mlp.up_proj.weight: the tensor is missing from the checkpoint");
}

TEST(LlamaConfig, OtherArchitecturesOfTheSameTensorNamesAreNotTaken) {
  const ToyModel toy = toy_llama({});
  const auto name = [&](const Json& config) {
    const ArchitectureEntry* entry = match_architecture(*Source(toy.tensors, config));
    return std::string(entry != nullptr ? entry->name : "none");
  };
  EXPECT_EQ(name(changed(toy.config, {{"architectures", {"GemmaForCausalLM"}}})), "none");
  EXPECT_EQ(name(Json()), "llama");
  for (const char* type : {"llama", "mistral", "qwen2", "qwen3"})
    EXPECT_EQ(name({{"model_type", type}}), "llama");
  EXPECT_EQ(name({{"architectures", {"LlamaModel"}}}), "llama");
  EXPECT_EQ(name({{"architectures", {"LlamaForSequenceClassification"}}}), "none");
}

TEST(LlamaConfig, MissingOrMisshapenTensorsAreErrorsThatNameThem) {
  for (const char* name :
       {"self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight",
        "self_attn.o_proj.weight", "input_layernorm.weight", "post_attention_layernorm.weight",
        "mlp.gate_proj.weight", "mlp.up_proj.weight", "mlp.down_proj.weight"}) {
    ToyModel toy = toy_llama({});
    toy.tensors[kLayer + name] = at::ones({5});
    EXPECT_ERROR(Source(toy.tensors, toy.config).model()->load_block(0), ExitCode::kFailed, kLayer + name);
    toy.tensors.erase(kLayer + name);
    EXPECT_ERROR(Source(toy.tensors, toy.config).model()->load_block(0), ExitCode::kFailed, kLayer + name);
  }
}

ToyModel toy_member(const std::string& type, int64_t layers) {
  ToyModel toy = toy_llama({.layers = layers, .qk_norm = type == "qwen3"});
  declare(toy, type);
  if (type == "qwen2") make_qwen2(toy);
  return toy;
}

TEST(LlamaWindows, AreWhatTheArchitectureMakesOfThem) {
  const auto windows = [](const char* type, const Json& fields) {
    const ToyModel toy = toy_member(type, 3);
    return read_llama_config(*Source(toy.tensors, changed(toy.config, fields))).windows;
  };
  using Sizes = std::vector<int64_t>;
  EXPECT_EQ(windows("llama", {{"sliding_window", 8}}), Sizes({0, 0, 0}));
  EXPECT_EQ(windows("mistral", {{"sliding_window", 8}}), Sizes({8, 8, 8}));
  EXPECT_EQ(windows("mistral", Json::object()), Sizes(3, 4096));
  const Json types = {"sliding_attention", "full_attention", "sliding_attention"};
  for (const char* qwen : {"qwen2", "qwen3"}) {
    const Json on = {{"sliding_window", 8}, {"use_sliding_window", true}};
    EXPECT_EQ(windows(qwen, {{"sliding_window", 8}}), Sizes({0, 0, 0}));
    EXPECT_EQ(windows(qwen, on), Sizes({0, 0, 0}));  // max_window_layers is 28 if not stated
    EXPECT_EQ(windows(qwen, changed(on, {{"max_window_layers", 1}})), Sizes({0, 8, 8}));
    EXPECT_EQ(windows(qwen, changed(on, {{"layer_types", types}})), Sizes({8, 0, 8}));
    EXPECT_ERROR(windows(qwen, {{"layer_types", types}}), ExitCode::kFailed, "no sliding window is in use");
    EXPECT_ERROR(windows(qwen, {{"layer_types", {"full_attention"}}}), ExitCode::kFailed, "array of 3 types");
    EXPECT_ERROR(windows(qwen, {{"layer_types", {"a", "b", "c"}}}), ExitCode::kFailed, "the type \"a\"");
  }
  for (const char* type : {"llama", "mistral"}) {
    EXPECT_ERROR(windows(type, {{"sliding_window", 8}, {"layer_types", types}}), ExitCode::kFailed,
                 "in all layers");
  }
  for (const Json& size : {Json(0), Json(-4), Json(1e15), Json("8")})
    EXPECT_ERROR(windows("mistral", {{"sliding_window", size}}), ExitCode::kFailed, "sliding_window");
}

TEST(LlamaWindows, WhatAnArchitectureDoesNotReadIsAWarning) {
  EXPECT_EQ(
      warnings_of({{"sliding_window", 8}}),
      std::vector<std::string>({"config.json: sliding_window is 8, which a LlamaForCausalLM does not read: "
                                "ignored, as in transformers"}));
  EXPECT_EQ(warnings_of({{"sliding_window", nullptr}, {"use_sliding_window", false}}),
            std::vector<std::string>());
  EXPECT_EQ(warnings_of(changed(declared("mistral"), {{"use_sliding_window", false}})).size(), 1U);
}

TEST(LlamaWindows, NullSwitchesThemOff) {
  for (const char* type : {"mistral", "qwen2"}) {
    ToyModel toy = toy_member(type, 2);
    toy.config["sliding_window"] = nullptr;
    toy.config["use_sliding_window"] = true;
    toy.config["max_window_layers"] = 0;
    EXPECT_EQ(read_llama_config(*Source(toy.tensors, toy.config)).windows, std::vector<int64_t>(2, 0));
  }
}

// Frequencies as transformers 5.23 computes them for heads of 16 channels.
struct RopeCase {
  Json parameters;
  std::vector<double> frequencies;  // of pairs 1, 3, 4 and 6
  double scale;
};

void expect_rope(const Rope& rope, const RopeCase& expected) {
  SCOPED_TRACE(expected.parameters.dump());
  const std::vector<int64_t> pairs = {1, 3, 4, 6};
  for (size_t i = 0; i < pairs.size(); ++i) {
    const double value = rope.frequencies[pairs[i]].item<double>();
    EXPECT_NEAR(value, expected.frequencies[i], 2e-7 * expected.frequencies[i]) << pairs[i];
  }
  EXPECT_NEAR(rope.scale, expected.scale, 1e-9);
}

const std::vector<RopeCase>& rope_cases() {
  static const std::vector<RopeCase> cases = {
      {{{"rope_type", "linear"}, {"rope_theta", 1e4}, {"factor", 4.0}},
       {0.079056941, 0.00790569466, 0.00249999994, 0.000250000012},
       1},
      {{{"rope_type", "llama3"},
        {"rope_theta", 5e5},
        {"factor", 8.0},
        {"low_freq_factor", 1.0},
        {"high_freq_factor", 4.0},
        {"original_max_position_embeddings", 64}},
       {0.079403013, 0.000911583134, 0.000176776681, 6.64786967e-06},
       1},
      {{{"rope_type", "yarn"},
        {"rope_theta", 1e4},
        {"factor", 4.0},
        {"original_max_position_embeddings", 64}},
       {0.237170815, 0.00790569466, 0.00249999994, 0.000250000012},
       1.13862943611},
      {{{"rope_type", "yarn"},
        {"rope_theta", 1e4},
        {"factor", 8.0},
        {"original_max_position_embeddings", 1024},
        {"beta_fast", 16},
        {"beta_slow", 2},
        {"truncate", false},
        {"mscale", 0.707},
        {"mscale_all_dim", 1.2}},
       {0.316227764, 0.0165483095, 0.00124999997, 0.000125000006},
       0.917956173038},
      {{{"rope_type", "yarn"},
        {"rope_theta", 1e4},
        {"factor", 8.0},
        {"original_max_position_embeddings", 1024},
        {"attention_factor", 0.75}},
       {0.316227764, 0.0177878123, 0.00343749998, 0.000125000006},
       0.75},
  };
  return cases;
}

Rope read_rope(const Json& config, int64_t head_dim, int64_t context_limit) {
  std::vector<std::string> warnings;
  return ptq::read_rope(config, head_dim, context_limit, warnings);
}

TEST(Rope, FrequenciesAreTransformers) {
  for (const RopeCase& test : rope_cases()) expect_rope(read_rope(rope_of(test.parameters), 16, 256), test);
}

TEST(Rope, OlderKeysSayTheSame) {
  for (const RopeCase& test : rope_cases()) {
    Json scaling = test.parameters;
    const Json theta = scaling["rope_theta"];
    scaling.erase("rope_theta");
    expect_rope(read_rope({{"rope_theta", theta}, {"rope_scaling", scaling}}, 16, 256), test);
    scaling["type"] = scaling["rope_type"];
    scaling.erase("rope_type");
    expect_rope(read_rope({{"rope_theta", theta}, {"rope_scaling", scaling}}, 16, 256), test);
  }
  const Rope plain = read_rope({{"rope_theta", 1e4}, {"rope_scaling", nullptr}}, 16, 256);
  EXPECT_TRUE(at::equal(plain.frequencies, read_rope(Json::object(), 16, 256).frequencies));
}

TEST(Rope, WhatIsNotUnderstoodIsNamed) {
  expect_refused(
      {{rope_of({{"rope_type", "dynamic"}, {"factor", 2}}), "the rope type \"dynamic\" is not supported"},
       {{{"rope_scaling", {{"type", "su"}}}, {"rope_parameters", nullptr}},
        "rope_scaling: \"short_factor\" is missing"},
       {rope_of({{"full_attention", {{"rope_theta", 1e4}}}, {"sliding_attention", {{"rope_theta", 1e5}}}}),
        "rope_parameters: holds an object for \"full_attention\""},
       {rope_of({{"rope_type", "linear"}}), "\"factor\" is missing"},
       {rope_of({{"rope_type", "llama3"}, {"factor", 8}}), "\"low_freq_factor\" is missing"},
       {rope_of({{"partial_rotary_factor", 0.5}}), "rope_parameters.partial_rotary_factor: is 0.5"},
       {rope_of({{"rope_type", 3}}), "rope_type"},
       {rope_of(Json::array()), "rope_parameters"}});
}

TEST(Rope, FieldsThatATypeDoesNotReadAreNamedInAWarning) {
  const Json yarn = {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 64}};
  Json more = yarn;
  more["attn_factor"] = 0.5;
  more["finetuned"] = true;
  more["nothing"] = nullptr;
  std::vector<std::string> warnings;
  const Rope rope = ptq::read_rope(rope_of(more), 16, 256, warnings);
  EXPECT_EQ(warnings,
            std::vector<std::string>({"config.json: rope_parameters: the rope type \"yarn\" does not read "
                                      "\"attn_factor\", \"finetuned\": ignored, as in transformers"}));
  const Rope plain = read_rope(rope_of(yarn), 16, 256);
  EXPECT_TRUE(at::equal(rope.frequencies, plain.frequencies));
  EXPECT_EQ(rope.scale, plain.scale);
}

// transformers 5.24: `rope_scaling or rope_parameters`; the loser's theta is lost with it.
TEST(Rope, ScalingBesideParametersTakesTheirPlace) {
  const Json scaling = {{"rope_type", "linear"}, {"factor", 4.0}};
  const Json parameters = {{"rope_type", "default"}, {"rope_theta", 5e5}};
  std::vector<std::string> warnings;
  const Rope rope =
      ptq::read_rope({{"rope_parameters", parameters}, {"rope_scaling", scaling}}, 16, 256, warnings);
  EXPECT_TRUE(at::equal(rope.frequencies, read_rope({{"rope_scaling", scaling}}, 16, 256).frequencies));
  EXPECT_EQ(warnings.size(), 1U);
  warnings.clear();
  const Rope same =
      ptq::read_rope({{"rope_parameters", scaling}, {"rope_scaling", scaling}}, 16, 256, warnings);
  EXPECT_TRUE(at::equal(same.frequencies, rope.frequencies));
  const Rope empty =
      ptq::read_rope({{"rope_parameters", parameters}, {"rope_scaling", Json::object()}}, 16, 256, warnings);
  EXPECT_TRUE(
      at::equal(empty.frequencies, read_rope({{"rope_parameters", parameters}}, 16, 256).frequencies));
  EXPECT_EQ(warnings, std::vector<std::string>());
}

TEST(Rope, HostileNumbersAreErrors) {
  for (const Json& bad : {Json(0), Json(-2), Json(1e300), Json("2")}) {
    expect_refused(
        {{rope_of({{"rope_theta", bad}}), "rope_theta"},
         {rope_of({{"rope_type", "linear"}, {"factor", bad}}), "factor"},
         {rope_of({{"rope_type", "yarn"}, {"factor", 2}, {"original_max_position_embeddings", bad}}),
          "original_max_position_embeddings"},
         {rope_of({{"rope_type", "yarn"}, {"factor", 2}, {"attention_factor", bad}}), "attention_factor"}});
  }
  expect_refused(
      {{rope_of({{"rope_type", "llama3"}, {"factor", 8}, {"low_freq_factor", 4}, {"high_freq_factor", 4}}),
        "high_freq_factor: is 4.0, not above low_freq_factor, 4.0"},
       {rope_of({{"rope_theta", 1}}), "rope_theta"}});
}

}  // namespace
}  // namespace ptq
