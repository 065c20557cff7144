// Mamba-2 models: what is read from a checkpoint and its configuration, and what is refused.
#include <gtest/gtest.h>

#include <limits>

#include "../base/expect_error.h"
#include "../support/toy_mamba2.h"
#include "../support/toy_source.h"
#include "model/mamba2_config.h"
#include "model/mamba2_sizes.h"
#include "ptq/model/model.h"

namespace ptq {
namespace {

using testing::config_of;
using testing::logits_of;
using testing::Source;
using testing::toy_ids;
using testing::toy_mamba2;
using testing::ToyMamba2;
using testing::ToyModel;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
const std::string kMixer = "backbone.layers.0.mixer.";
const ToyMamba2 kStateSpaces{.state_spaces = true};

Mamba2Config read(const ToyModel& model) {
  return read_mamba2_config(*Source(model.tensors, model.config));
}

// The toy with another configuration.
Mamba2Config read(const Json& config, const ToyMamba2& sizes = {}) {
  return read_mamba2_config(*Source(toy_mamba2(sizes).tensors, config));
}

Json with(Json config, const std::string& key, const Json& value) {
  config[key] = value;
  return config;
}

Json with_ssm(const std::string& key, const Json& value) {
  Json config = config_of(kStateSpaces);
  config["ssm_cfg"][key] = value;
  return config;
}

TEST(Mamba2Config, SizesComeFromShapesAndFromBothFormsOfConfigurations) {
  ToyMamba2 sizes{.d_model = 20,
                  .heads = 6,
                  .head_dim = 10,
                  .groups = 3,
                  .d_state = 7,
                  .d_conv = 4,
                  .layers = 3,
                  .vocab = 34};
  for (const bool state_spaces : {false, true}) {
    sizes.state_spaces = state_spaces;
    const Mamba2Config config = read(toy_mamba2(sizes));
    EXPECT_EQ(config.mixer.prefix, "backbone.layers.0.mixer");
    EXPECT_EQ(config.mixer.d_model, 20);
    EXPECT_EQ(config.mixer.d_inner, 60);
    EXPECT_EQ(config.mixer.heads, 6);
    EXPECT_EQ(config.mixer.head_dim, 10);
    EXPECT_EQ(config.mixer.groups, 3);
    EXPECT_EQ(config.mixer.d_state, 7);
    EXPECT_EQ(config.mixer.d_conv, 4);
    EXPECT_FALSE(config.mixer.in_bias || config.mixer.out_bias);
    EXPECT_TRUE(config.mixer.conv_bias);
    ASSERT_TRUE(config.mixer.norm.has_value());
    EXPECT_EQ(config.mixer.norm->groups, 3);
    EXPECT_EQ(config.mixer.norm->eps, 1e-5);
    EXPECT_FALSE(config.mixer.norm->before_gate);
    EXPECT_EQ(config.mixer.dt_low, 0);
    EXPECT_EQ(config.mixer.dt_high, kInfinity);
    EXPECT_EQ(config.num_layers, 3);
    EXPECT_EQ(config.vocab_size, 34);
    EXPECT_EQ(config.tied, true);
    EXPECT_TRUE(config.warnings.empty());
  }
}

// Shapes tell the product of groups and state alone.
TEST(Mamba2Config, GroupsOrStateMustBeStated) {
  EXPECT_EQ(read({{"n_groups", 2}}).mixer.d_state, 8);
  EXPECT_EQ(read({{"state_size", 8}}).mixer.groups, 2);
  EXPECT_EQ(read({{"state_size", 4}}).mixer.groups, 4);
  EXPECT_ERROR(read(Json()), ExitCode::kFailed,
               "config.json: n_groups and state_size are missing, and the tensors' shapes tell only their "
               "product, 16");
  EXPECT_ERROR(read({{"n_groups", 3}}), ExitCode::kFailed,
               "n_groups is 3, but the tensors' shapes say that their product is 16");
  EXPECT_ERROR(read({{"state_size", 32}}), ExitCode::kFailed, "state_size is 32, but");
  EXPECT_ERROR(read({{"n_groups", 2}, {"state_size", 7}}), ExitCode::kFailed,
               "n_groups is 2 and state_size is 7, but the tensors' shapes say that their product is 16");
  EXPECT_ERROR(read({{"n_groups", 8}}), ExitCode::kFailed, "n_groups: 4 heads do not divide into 8 groups");
  for (const Json& bad : {Json(0), Json(-2), Json(int64_t{1} << 40)})
    EXPECT_ERROR(read({{"n_groups", bad}}), ExitCode::kFailed, "n_groups");
}

TEST(Mamba2Config, WhatIsNotStatedIsTheDefaultOfTheClass) {
  Json config = config_of({});
  config.erase("n_groups");
  EXPECT_ERROR(read(config), ExitCode::kFailed,
               "n_groups is not stated, which means 8 and state_size is 8, but the tensors' shapes say that "
               "their product is 16");
  const ToyMamba2 wide{.heads = 8, .head_dim = 6, .groups = 8, .d_state = 128};
  config = config_of(wide);
  config.erase("n_groups");
  config.erase("state_size");
  EXPECT_EQ(read(config, wide).mixer.groups, 8);
  const ToyMamba2 spaces{.groups = 1, .d_state = 128, .state_spaces = true};
  config = config_of(spaces);
  config["ssm_cfg"] = {{"layer", "Mamba2"}};
  EXPECT_EQ(read(config, spaces).mixer.d_state, 128);
  config["ssm_cfg"]["ngroups"] = 2;
  EXPECT_ERROR(read(config, spaces), ExitCode::kFailed,
               "ssm_cfg: ngroups is 2 and d_state is not stated, which means 128");
}

TEST(Mamba2Config, EachContradictionWithTheShapesIsAnErrorWithBothNumbers) {
  const std::vector<std::pair<const char*, const char*>> keys = {
      {"hidden_size", "24"}, {"num_heads", "4"},          {"head_dim", "12"},
      {"conv_kernel", "3"},  {"intermediate_size", "48"}, {"vocab_size", "50"}};
  for (const auto& [key, shape] : keys) {
    EXPECT_ERROR(read(with(config_of({}), key, 77)), ExitCode::kFailed,
                 std::string(key) + ": is 77, but the tensors' shapes say " + shape);
  }
  EXPECT_ERROR(read(with(config_of({}), "expand", 3)), ExitCode::kFailed,
               "expand: is 3, but the tensors widen 24 channels to 48");
  for (const char* key : {"headdim", "d_conv", "expand"}) {
    EXPECT_ERROR(read(with_ssm(key, 77)), ExitCode::kFailed,
                 "config.json: ssm_cfg." + std::string(key) + ": is 77");
  }
  EXPECT_ERROR(read(with_ssm("d_state", 77)), ExitCode::kFailed, "ngroups is 2 and d_state is 77");
  EXPECT_ERROR(read(with(config_of(kStateSpaces), "d_model", 77)), ExitCode::kFailed, "d_model: is 77");
}

TEST(Mamba2Config, WhatIsNotDoneIsRefusedByName) {
  const std::vector<std::pair<Json, const char*>> cases = {
      {with(config_of({}), "hidden_act", "gelu"), "hidden_act: \"gelu\" is not supported"},
      {with(config_of({}), "layer_norm_epsilon", 0), "layer_norm_epsilon: is 0"},
      {with(config_of({}), "ssm_multipliers", {1, 2, 3, 4, 5}), "ssm_multipliers: is [1,2,3,4,5]"},
      {with(config_of(kStateSpaces), "attn_layer_idx", {3}), "attn_layer_idx: is [3]"},
      {with(config_of(kStateSpaces), "d_intermediate", 128), "d_intermediate: is 128"},
      {with(config_of(kStateSpaces), "rms_norm", false), "rms_norm: LayerNorm is not supported"},
      {with_ssm("layer", "Mamba1"), "ssm_cfg.layer: the configuration says \"Mamba1\""},
      {with_ssm("layer", "Mamba3"), "ssm_cfg.layer: the configuration says \"Mamba3\""},
      {with_ssm("layer", nullptr), "ssm_cfg.layer: is not stated, which means \"Mamba1\""},
      {with_ssm("d_ssm", 24), "ssm_cfg.d_ssm: is 24 of 48 channels: an MLP inside the mixer"},
      {with_ssm("dt_rank", 3), "ssm_cfg.dt_rank: is not an option of Mamba-2's layers"},
  };
  for (const auto& [json, words] : cases) {
    SCOPED_TRACE(json.dump());
    EXPECT_ERROR(read(json), ExitCode::kFailed, words);
  }
  EXPECT_NO_THROW(read(with_ssm("d_ssm", 48)));
  EXPECT_NO_THROW(read(with_ssm("d_ssm", nullptr)));
}

TEST(Mamba2Config, StepLimitsAreReadInEverySpelling) {
  const Json spelled = {{"__float__", "Infinity"}};
  const std::vector<std::tuple<Json, double, double>> good = {
      {{0.0, kInfinity}, 0, kInfinity}, {{0.0, spelled}, 0, kInfinity}, {{0.01, 0.1}, 0.01, 0.1},
      {{0.5, 0.5}, 0.5, 0.5},           {{1, spelled}, 1, kInfinity},   {nullptr, 0, kInfinity}};
  for (const auto& [limits, low, high] : good) {
    SCOPED_TRACE(limits.dump());
    for (const Json& config :
         {with(config_of({}), "time_step_limit", limits), with_ssm("dt_limit", limits)}) {
      const Mamba2Config read_config = read(config);
      EXPECT_EQ(read_config.mixer.dt_low, low);
      EXPECT_EQ(read_config.mixer.dt_high, high);
    }
  }
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<Json> bad = {0.1,
                                 Json::array(),
                                 {0.1},
                                 {0.1, 0.2, 0.3},
                                 {0.2, 0.1},
                                 {"a", 1},
                                 {0, nullptr},
                                 {kInfinity, kInfinity},
                                 {nan, 1},
                                 {0, nan},
                                 {0, {{"__float__", "NaN"}}},
                                 {0, {{"__float__", "Infinity"}, {"b", 1}}}};
  for (const Json& limits : bad) {
    EXPECT_ERROR(read(with(config_of({}), "time_step_limit", limits)), ExitCode::kFailed,
                 "time_step_limit: ");
    EXPECT_ERROR(read(with_ssm("dt_limit", limits)), ExitCode::kFailed, "ssm_cfg.dt_limit: ");
  }
}

TEST(Mamba2Config, HuggingFacesIsWrittenAsItIs) {
  const Json limits = {0.0, {{"__float__", "Infinity"}}};
  for (const Json& value : {limits, Json({0.0, kInfinity}), Json({0.25, 0.5})}) {
    const Json config = with(config_of({}), "time_step_limit", value);
    EXPECT_EQ(hugging_face_config(read(config), config), config);
  }
}

TEST(Mamba2Config, StateSpacesBecomesHuggingFaces) {
  ToyModel toy = toy_mamba2(kStateSpaces);
  toy.tensors["backbone.embedding.weight"] = toy.tensors["backbone.embeddings.weight"];
  toy.tensors.erase("backbone.embeddings.weight");
  toy.config["vocab_size"] = 49;
  toy.config["ssm_cfg"]["dt_limit"] = {0.01, kInfinity};
  const Mamba2Config config = read(toy);
  EXPECT_EQ(config.embedding, "backbone.embedding.weight");
  const Json made = hugging_face_config(config, toy.config);
  Json expected = config_of({});
  expected["expand"] = 2;
  expected["time_step_limit"] = {0.01, kInfinity};
  expected["bos_token_id"] = 0;
  for (const auto& [key, value] : expected.items()) EXPECT_EQ(made[key], value) << key;
  // Whoever reads it again computes the same.
  const Tensor logits = logits_of(*Source(toy.tensors, toy.config).model(), toy_ids());
  EXPECT_TRUE(at::equal(logits_of(*Source(toy.tensors, made).model(), toy_ids()), logits));
}

// What Hugging Face's class lacks would be lost in its words.
TEST(Mamba2Config, StateSpacesOptionsThatHuggingFaceLacksKeepTheirForm) {
  const auto make = [](const char* key, bool value) {
    ToyMamba2 sizes = kStateSpaces;
    sizes.norm = std::string(key) != "rmsnorm";
    ToyModel toy = toy_mamba2(sizes);
    toy.config["ssm_cfg"][key] = value;
    return toy;
  };
  EXPECT_FALSE(read(make("rmsnorm", false)).mixer.norm.has_value());
  EXPECT_TRUE(read(make("norm_before_gate", true)).mixer.norm->before_gate);
  ToyModel wide = make("D_has_hdim", true);
  EXPECT_ERROR(Source(wide.tensors, wide.config).model()->load_block(0), ExitCode::kFailed, kMixer + "D");
  for (const char* layer : {"0", "1"})
    wide.tensors["backbone.layers." + std::string(layer) + ".mixer.D"] = at::linspace(-1, 1, 48);
  EXPECT_TRUE(read(wide).mixer.D_by_channel);
  for (const ToyModel& toy : {make("rmsnorm", false), make("norm_before_gate", true), wide}) {
    EXPECT_EQ(hugging_face_config(read(toy), toy.config), toy.config);
    const Source source(toy.tensors, toy.config);
    EXPECT_NO_THROW(expect_all_read(find_architecture(*source, "here"), *source, "here"));
    EXPECT_TRUE(at::isfinite(logits_of(*source.model(), toy_ids())).all().item<bool>());
  }
}

TEST(Mamba2Config, RealConfigurationsHaveNoWarning) {
  // Mamba-Codestral-7B-v0.1 and state-spaces/mamba2-130m as they are on the hub, but for their sizes.
  const Json codestral = {{"architectures", {"Mamba2ForCausalLM"}},
                          {"bos_token_id", 0},
                          {"chunk_size", 256},
                          {"conv_kernel", 3},
                          {"eos_token_id", 0},
                          {"expand", 2},
                          {"head_dim", 12},
                          {"hidden_act", "silu"},
                          {"hidden_size", 24},
                          {"initializer_range", 0.1},
                          {"intermediate_size", 48},
                          {"layer_norm_epsilon", 1e-5},
                          {"model_type", "mamba2"},
                          {"n_groups", 2},
                          {"norm_before_gate", true},
                          {"num_heads", 4},
                          {"num_hidden_layers", 2},
                          {"pad_token_id", 0},
                          {"rescale_prenorm_residual", false},
                          {"residual_in_fp32", true},
                          {"rms_norm", true},
                          {"state_size", 8},
                          {"tie_word_embeddings", false},
                          {"time_step_floor", 1e-4},
                          {"time_step_init_scheme", "random"},
                          {"time_step_limit", {0.0, kInfinity}},
                          {"time_step_max", 0.1},
                          {"time_step_min", 0.001},
                          {"time_step_rank", 256},
                          {"time_step_scale", 1.0},
                          {"torch_dtype", "bfloat16"},
                          {"transformers_version", "4.44.0.dev0"},
                          {"use_bias", false},
                          {"use_cache", true},
                          {"use_conv_bias", true},
                          {"vocab_size", 50}};
  const Json state_spaces = {{"d_model", 24},
                             {"d_intermediate", 0},
                             {"n_layer", 2},
                             {"vocab_size", 47},
                             {"ssm_cfg", {{"layer", "Mamba2"}, {"ngroups", 2}, {"d_state", 8}}},
                             {"attn_layer_idx", Json::array()},
                             {"attn_cfg", Json::object()},
                             {"rms_norm", true},
                             {"residual_in_fp32", true},
                             {"fused_add_norm", true},
                             {"pad_vocab_size_multiple", 10},
                             {"tie_embeddings", true}};
  for (const Json& json : {codestral, state_spaces}) {
    const Mamba2Config config = read(json);
    EXPECT_TRUE(config.warnings.empty());
    // transformers does not read norm_before_gate.
    EXPECT_FALSE(config.mixer.norm->before_gate);
  }
}

TEST(Mamba2Config, BiasesAreReadWhereTheConfigurationSaysSo) {
  const ToyMamba2 biased{.biases = true};
  const ToyMamba2 spaces{.biases = true, .state_spaces = true};
  const ToyModel toy = toy_mamba2(biased);
  const Tensor all = logits_of(*Source(toy.tensors, toy.config).model(), toy_ids());
  for (const Json& json : {config_of(spaces), Json({{"n_groups", 2}})})
    EXPECT_TRUE(at::equal(logits_of(*Source(toy.tensors, json).model(), toy_ids()), all)) << json.dump();
  EXPECT_EQ(Source(toy.tensors, config_of(spaces)).model()->config()["use_bias"], true);
  EXPECT_ERROR(read(config_of({}), biased), ExitCode::kFailed,
               "config.json: use_bias: is false, but backbone.layers.0.mixer.in_proj.bias is stored");
  EXPECT_ERROR(read(config_of(kStateSpaces), biased), ExitCode::kFailed, "ssm_cfg.bias: is false, but");
  EXPECT_ERROR(read(with(config_of({}), "use_conv_bias", false)), ExitCode::kFailed,
               "use_conv_bias: is false, but backbone.layers.0.mixer.conv1d.bias is stored");
  EXPECT_ERROR(Source(toy_mamba2({}).tensors, config_of(biased)).model()->load_block(0), ExitCode::kFailed,
               "in_proj.bias: the tensor is missing");
}

TEST(Mamba2Config, TensorsThatDoNotFitTogetherAreErrorsThatNameThem) {
  const auto read_with = [](const char* name, const Tensor& tensor) {
    ToyModel toy = toy_mamba2({});
    toy.tensors[kMixer + name] = tensor;
    return read(toy);
  };
  EXPECT_ERROR(read_with("A_log", at::ones({5})), ExitCode::kFailed,
               kMixer + "out_proj.weight: 48 channels do not divide into 5 heads");
  EXPECT_ERROR(read_with("conv1d.weight", at::ones({48, 1, 3})), ExitCode::kFailed,
               kMixer + "conv1d.weight: has 48 channels, of which 48 are x");
  EXPECT_ERROR(read_with("conv1d.weight", at::ones({79, 1, 3})), ExitCode::kFailed, "has 79 channels");
  EXPECT_ERROR(read_with("conv1d.weight", at::ones({80, 1, 65})), ExitCode::kFailed, "conv_kernel");
  EXPECT_ERROR(read_with("A_log", at::ones({4, 8})), ExitCode::kFailed, kMixer + "A_log");
  ToyModel toy = toy_mamba2({});
  toy.tensors[kMixer + "conv1d.weight"] = at::ones({48 + 2 * 514, 1, 3});
  toy.config["state_size"] = 257;
  EXPECT_ERROR(read(toy), ExitCode::kFailed, "state size 257 and convolution width 3; at most 256 and 64");
  for (const char* name : {"in_proj.weight", "dt_bias", "D", "norm.weight", "conv1d.bias"}) {
    toy = toy_mamba2({});
    toy.tensors[kMixer + name] = at::ones({7});
    EXPECT_ERROR(Source(toy.tensors, toy.config).model()->load_block(0), ExitCode::kFailed, kMixer + name);
    toy.tensors.erase(kMixer + name);
    EXPECT_ERROR(Source(toy.tensors, toy.config).model()->load_block(0), ExitCode::kFailed, kMixer + name);
  }
}

// A checkpoint whose mixer has another prefix, and words of other architectures.
TEST(Mamba2Sizes, WordsAreThoseOfTheArchitecture) {
  const Source source(toy_mamba2({.biases = true}).tensors);
  const Mamba2Words words{.heads = {"mamba_n_heads"},
                          .head_dim = {"mamba_d_head"},
                          .state = {"mamba_d_state"},
                          .groups = {"n_groups", "mamba_n_groups"},
                          .conv = {"mamba_d_conv"},
                          .inner = {"mamba_d_ssm"},
                          .default_state = 256,
                          .default_groups = 1,
                          .in_bias = "mamba_proj_bias",
                          .out_bias = "projectors_bias",
                          .conv_bias = "mamba_conv_bias"};
  const auto sizes = [&](Json config) {
    config["mamba_proj_bias"] = true;
    config["projectors_bias"] = true;
    JsonFields fields(config, "config.json");
    return read_mamba2_sizes(*source, "backbone.layers.1.mixer", 24, fields, words);
  };
  const Mamba2Layout layout = sizes({{"mamba_n_groups", 2}, {"mamba_d_state", 8}, {"mamba_d_head", "auto"}});
  EXPECT_EQ(layout.prefix, "backbone.layers.1.mixer");
  EXPECT_EQ(layout.groups, 2);
  EXPECT_TRUE(layout.in_bias && layout.out_bias && layout.conv_bias);
  EXPECT_FALSE(layout.norm.has_value());
  EXPECT_ERROR(sizes({{"mamba_d_state", 8}}), ExitCode::kFailed, "n_groups is not stated, which means 1");
  EXPECT_ERROR(sizes({{"n_groups", 2}, {"mamba_n_groups", 4}, {"mamba_d_state", 8}}), ExitCode::kFailed,
               "mamba_n_groups: is 4, but the tensors' shapes say 2");
  EXPECT_ERROR(sizes({{"mamba_n_groups", 2}, {"mamba_d_state", 8}, {"mamba_d_ssm", 96}}), ExitCode::kFailed,
               "mamba_d_ssm: is 96, but the tensors' shapes say 48");
}

TEST(Mamba2Model, MatchesByNamesAndByTensorsAlone) {
  const ToyModel toy = toy_mamba2({});
  for (const Json& json : {toy.config, config_of(kStateSpaces), Json({{"n_groups", 2}}), Json()})
    EXPECT_STREQ(find_architecture(*Source(toy.tensors, json), "here").name, "mamba2");
  EXPECT_ERROR(find_architecture(*Source(toy.tensors, {{"model_type", "hawk"}}), "here"), ExitCode::kFailed,
               "hawk is not supported; its tensors have the names of mamba2");
  EXPECT_ERROR(Source(toy.tensors, {{"model_type", "mamba"}}).model(), ExitCode::kFailed, kMixer);
  EXPECT_ERROR(Source(testing::toy_mamba({}), {{"model_type", "mamba2"}}).model(), ExitCode::kFailed, kMixer);
}

}  // namespace
}  // namespace ptq
