// Mamba models: what is read from a checkpoint, and what is refused.
#include <gtest/gtest.h>

#include <limits>

#include "../base/expect_error.h"
#include "../support/toy_source.h"
#include "model/mamba_config.h"
#include "ptq/model/model.h"

namespace ptq {
namespace {

using testing::logits_of;
using testing::Source;
using testing::toy_ids;
using testing::ToyMamba;

const std::string kMixer = "backbone.layers.0.mixer.";

TEST(FloatSource, ReadsEveryPrecisionAsFloatAndRemembersTheDtypeToWrite) {
  const Tensor values = at::tensor({1.5F, -2.25F, 3.F});
  const Source source({{"f64", values.to(at::kDouble)},
                       {"f32", values},
                       {"f16", values.to(at::kHalf)},
                       {"bf16", values.to(at::kBFloat16)}});
  for (const auto& [name, dtype] : std::vector<std::pair<const char*, at::ScalarType>>{
           {"f64", at::kFloat}, {"f32", at::kFloat}, {"f16", at::kHalf}, {"bf16", at::kBFloat16}}) {
    const Weight weight = source->read(name, Role::kNorm, {3});
    EXPECT_EQ(weight.stored, dtype);
    EXPECT_EQ(weight.values().scalar_type(), at::kFloat);
    EXPECT_TRUE(at::equal(weight.values(), values));
  }
}

TEST(FloatSource, NanOrInfiniteValuesAreAnErrorThatCountsThem) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  const Tensor bad = at::tensor({1.F, nan, 2.F, -infinity});
  const Source source({{"w", bad}, {"h", bad.to(at::kHalf)}});
  EXPECT_ERROR(source->read("w", Role::kNorm, {4}), ExitCode::kFailed,
               "w: 2 of 4 values are NaN or infinite");
  EXPECT_ERROR(source->read("h", Role::kNorm, {4}), ExitCode::kFailed,
               "h: 2 of 4 values are NaN or infinite");
}

TEST(FloatSource, AnotherShapeIsAnErrorWithBoth) {
  const Source source({{"w", at::ones({3, 4})}});
  EXPECT_ERROR(source->read("w", Role::kLinear, {4, 3}), ExitCode::kFailed, "[3, 4]");
  EXPECT_ERROR(source->read("w", Role::kLinear, {4, 3}), ExitCode::kFailed, "[4, 3]");
  EXPECT_ERROR(source->read("w", Role::kLinear, {12}), ExitCode::kFailed, "w");
}

TEST(FloatSource, DtypesThatAreNoWeightAreErrors) {
  const Source source({{"i", at::ones({2}, at::kLong)}, {"b", at::ones({2}, at::kByte)}});
  EXPECT_ERROR(source->read("i", Role::kNorm, {2}), ExitCode::kFailed, "I64");
  EXPECT_ERROR(source->read("b", Role::kNorm, {2}), ExitCode::kFailed, "U8");
}

TEST(FloatSource, MissingTensorIsAnError) {
  const Source source({{"weight", at::ones({2})}});
  EXPECT_ERROR(source->read("wieght", Role::kNorm, {2}), ExitCode::kFailed, "wieght");
}

TEST(MambaConfig, EverySizeComesFromShapesAlone) {
  const Source source(testing::toy_mamba({24, 40, 6, 3, 5, 3, 33}));
  const MambaConfig config = read_mamba_config(*source);
  EXPECT_EQ(config.d_model, 24);
  EXPECT_EQ(config.d_inner, 40);
  EXPECT_EQ(config.d_state, 6);
  EXPECT_EQ(config.d_conv, 3);
  EXPECT_EQ(config.dt_rank, 5);
  EXPECT_EQ(config.num_layers, 3);
  EXPECT_EQ(config.vocab_size, 33);
  EXPECT_FALSE(config.tied.has_value());
  EXPECT_EQ(config.embedding, "backbone.embeddings.weight");
  EXPECT_EQ(config.norm_eps, 1e-5);
}

TEST(MambaConfig, HuggingFaceConfigurationThatAgreesIsRead) {
  const Json json = {{"model_type", "mamba"}, {"hidden_size", 24},    {"num_hidden_layers", 2},
                     {"state_size", 8},       {"conv_kernel", 3},     {"intermediate_size", 48},
                     {"time_step_rank", 2},   {"hidden_act", "silu"}, {"layer_norm_epsilon", 1e-3},
                     {"bos_token_id", 7}};
  const Source source(testing::toy_mamba({}), json);
  const MambaConfig config = read_mamba_config(*source);
  EXPECT_EQ(config.norm_eps, 1e-3);
  EXPECT_EQ(config.start_token.id(), 7);
  EXPECT_EQ(hugging_face_config(config, source->config()), json);
}

TEST(MambaConfig, StateSpacesConfigurationBecomesHuggingFaces) {
  testing::TensorMap tensors = testing::toy_mamba({});
  tensors["backbone.embedding.weight"] = tensors["backbone.embeddings.weight"];
  tensors.erase("backbone.embeddings.weight");
  const Source source(tensors,
                      {{"d_model", 24}, {"n_layer", 2}, {"ssm_cfg", Json::object()}, {"rms_norm", true}});
  const MambaConfig config = read_mamba_config(*source);
  EXPECT_EQ(config.embedding, "backbone.embedding.weight");
  const Json made = hugging_face_config(config, source->config());
  EXPECT_EQ(made["architectures"][0], "MambaForCausalLM");
  EXPECT_EQ(made["hidden_size"], 24);
  EXPECT_EQ(made["num_hidden_layers"], 2);
  EXPECT_EQ(made["intermediate_size"], 48);
  EXPECT_EQ(made["time_step_rank"], 2);
  EXPECT_EQ(made["conv_kernel"], 3);
}

TEST(MambaConfig, AutomaticTimeStepRankIsTheShapes) {
  const Source source(testing::toy_mamba({}), {{"time_step_rank", "auto"}});
  EXPECT_EQ(read_mamba_config(*source).dt_rank, 2);
}

TEST(MambaConfig, EachContradictionWithTheShapesIsAnErrorWithBothNumbers) {
  const std::vector<std::pair<const char*, const char*>> keys = {
      {"hidden_size", "24"}, {"d_model", "24"},           {"state_size", "8"},     {"conv_kernel", "3"},
      {"d_inner", "48"},     {"intermediate_size", "48"}, {"time_step_rank", "2"}, {"vocab_size", "50"}};
  for (const auto& [key, shape] : keys) {
    const Source source(testing::toy_mamba({}), {{key, 77}});
    EXPECT_ERROR(read_mamba_config(*source), ExitCode::kFailed,
                 std::string(key) + ": is 77, but the tensors' shapes say " + shape);
  }
}

TEST(MambaConfig, UnsupportedChoicesAreErrors) {
  const std::vector<std::pair<Json, const char*>> cases = {
      {{{"hidden_act", "gelu"}}, "hidden_act: \"gelu\" is not supported"},
      {{{"rms_norm", false}}, "rms_norm"},
      {{{"layer_norm_epsilon", 0}}, "layer_norm_epsilon: is 0"},
      {{{"expand", 3}}, "expand: is 3, but the tensors widen 24 channels to 48"},
      {{{"time_step_rank", "automatic"}}, "time_step_rank"},
      {{{"mixer_rms_eps", 1e-6}}, "mixer_rms_eps: is 1e-06, which changes what the model computes"},
      {{{"attn_layer_idx", {3}}}, "attn_layer_idx: is [3]"},
      {{{"d_intermediate", 128}}, "d_intermediate: is 128"},
      {{{"time_step_limit", {0.01, 0.1}}}, "time_step_limit: is [0.01,0.1]"},
      {{{"ssm_cfg", {{"layer", "Mamba2"}}}}, "ssm_cfg.layer: the configuration says \"Mamba2\""},
      {{{"ssm_cfg", {{"d_state", 16}}}}, "ssm_cfg.d_state: is 16, but the tensors' shapes say 8"},
      {{{"ssm_cfg", {{"d_conv", 4}}}}, "ssm_cfg.d_conv: is 4"},
      {{{"ssm_cfg", {{"expand", 4}}}}, "ssm_cfg.expand: is 4"},
      {{{"ssm_cfg", {{"dt_rank", 3}}}}, "ssm_cfg.dt_rank: is 3"},
      {{{"ssm_cfg", {{"ngroups", 2}}}}, "ssm_cfg.ngroups: is not an option of Mamba-1's layers"},
  };
  for (const auto& [json, words] : cases) {
    SCOPED_TRACE(json.dump());
    const Source source(testing::toy_mamba({}), json);
    EXPECT_ERROR(read_mamba_config(*source), ExitCode::kFailed, words);
  }
}

TEST(MambaConfig, RealConfigurationsHaveNoWarning) {
  // state-spaces/mamba-130m-hf, as it is on the hub but for its sizes.
  const Json hub = {{"architectures", {"MambaForCausalLM"}},
                    {"bos_token_id", 0},
                    {"conv_kernel", 3},
                    {"d_inner", 48},
                    {"d_model", 24},
                    {"eos_token_id", 0},
                    {"expand", 2},
                    {"fused_add_norm", true},
                    {"hidden_act", "silu"},
                    {"hidden_size", 24},
                    {"initializer_range", 0.1},
                    {"intermediate_size", 48},
                    {"layer_norm_epsilon", 1e-5},
                    {"model_type", "mamba"},
                    {"n_layer", 2},
                    {"num_hidden_layers", 2},
                    {"pad_token_id", 0},
                    {"pad_vocab_size_multiple", 8},
                    {"rescale_prenorm_residual", false},
                    {"residual_in_fp32", true},
                    {"rms_norm", true},
                    {"ssm_cfg", Json::object()},
                    {"state_size", 8},
                    {"time_step_floor", 1e-4},
                    {"time_step_init_scheme", "random"},
                    {"time_step_max", 0.1},
                    {"time_step_min", 0.001},
                    {"time_step_rank", 2},
                    {"time_step_scale", 1.0},
                    {"torch_dtype", "float32"},
                    {"transformers_version", "4.39.0.dev0"},
                    {"use_bias", false},
                    {"use_cache", true},
                    {"use_conv_bias", true},
                    {"vocab_size", 50}};
  const Json state_spaces = {{"d_model", 24},
                             {"n_layer", 2},
                             {"vocab_size", 49},
                             {"ssm_cfg", {{"layer", "Mamba1"}, {"d_state", 8}, {"dt_rank", "auto"}}},
                             {"attn_layer_idx", Json::array()},
                             {"attn_cfg", Json::object()},
                             {"d_intermediate", 0},
                             {"rms_norm", true},
                             {"residual_in_fp32", true},
                             {"fused_add_norm", true},
                             {"pad_vocab_size_multiple", 2},
                             {"tie_embeddings", true}};
  for (const Json& json : {hub, state_spaces})
    EXPECT_EQ(read_mamba_config(*Source(testing::toy_mamba({}), json)).warnings, std::vector<std::string>());
}

TEST(MambaConfig, KeysNotKnownAreNamedInOneWarning) {
  const Source source(testing::toy_mamba({}), {{"frobnication", 3}, {"gate", false}, {"twist", {1, 2}}});
  EXPECT_EQ(read_mamba_config(*source).warnings,
            std::vector<std::string>(
                {"config.json: not known to this program and ignored: \"frobnication\", \"twist\""}));
}

TEST(MambaConfig, VocabularyMayBePaddedUpToAMultiple) {
  const auto read = [](int64_t vocabulary, int64_t multiple) {
    return read_mamba_config(
        *Source(testing::toy_mamba({}),
                {{"d_model", 24}, {"vocab_size", vocabulary}, {"pad_vocab_size_multiple", multiple}}));
  };
  EXPECT_EQ(read(50, 8).vocab_size, 50);
  EXPECT_EQ(read(47, 10).vocab_size, 50);
  EXPECT_ERROR(read(40, 10), ExitCode::kFailed, "vocab_size: is 40, but the tensors' shapes say 50");
  EXPECT_ERROR(read(51, 10), ExitCode::kFailed, "vocab_size: is 51");
  EXPECT_ERROR(
      read_mamba_config(*Source(testing::toy_mamba({}), {{"model_type", "mamba"}, {"vocab_size", 48}})),
      ExitCode::kFailed, "vocab_size: is 48");
}

TEST(MambaConfig, BiasesAreReadWhereTheConfigurationSaysSo) {
  testing::TensorMap tensors = testing::toy_mamba({});
  for (const std::string layer : {"backbone.layers.0.mixer.", "backbone.layers.1.mixer."}) {
    tensors[layer + "in_proj.bias"] = at::linspace(-1, 1, 96);
    tensors[layer + "out_proj.bias"] = at::linspace(-1, 1, 24);
  }
  const Json declared = {{"model_type", "mamba"}};
  Json with = declared, without_conv = declared;
  with["use_bias"] = true;
  without_conv["use_conv_bias"] = false;
  const Json spaces = {{"d_model", 24}, {"ssm_cfg", {{"bias", true}}}};
  const Tensor all = logits_of(*Source(tensors).model(), toy_ids());
  for (const Json& json : {with, spaces})
    EXPECT_TRUE(at::equal(logits_of(*Source(tensors, json).model(), toy_ids()), all)) << json.dump();
  EXPECT_EQ(Source(tensors).model()->config()["use_bias"], true);
  EXPECT_EQ(Source(tensors, spaces).model()->config()["use_bias"], true);
  EXPECT_ERROR(
      Source(tensors, declared).model(), ExitCode::kFailed,
      "config.json: use_bias: is not stated, which means false, but backbone.layers.0.mixer.in_proj.bias "
      "is stored");
  EXPECT_ERROR(Source(testing::toy_mamba({}), without_conv).model(), ExitCode::kFailed,
               "config.json: use_conv_bias: is false, but backbone.layers.0.mixer.conv1d.bias is stored");
  EXPECT_ERROR(Source(testing::toy_mamba({}), with).model()->load_block(0), ExitCode::kFailed,
               "in_proj.bias: the tensor is missing");
}

TEST(MambaConfig, LayersThatAreMissingOrTooManyAreSaidWithThoseThereAre) {
  const auto model = [](const testing::TensorMap& tensors, int64_t layers) {
    return Source(tensors, {{"num_hidden_layers", layers}}).model();
  };
  const testing::TensorMap four = testing::toy_mamba({24, 48, 8, 3, 2, 4});
  EXPECT_EQ(model(four, 4)->num_blocks(), 4);
  EXPECT_ERROR(model(four, 6), ExitCode::kFailed,
               "num_hidden_layers: is 6, but the checkpoint has the layers 0 to 3 (backbone.layers.*)");
  EXPECT_ERROR(model(four, 3), ExitCode::kFailed,
               "num_hidden_layers: is 3, but the checkpoint has the layers 0 to 3");
  testing::TensorMap holes;
  for (const auto& [name, tensor] : four) {
    if (!name.starts_with("backbone.layers.2.")) holes[name] = tensor;
  }
  EXPECT_ERROR(model(holes, 4), ExitCode::kFailed, "has the layers 0 to 1, 3 (backbone");
  EXPECT_ERROR(Source(holes).model(), ExitCode::kFailed, "the checkpoint has the layers 0 to 1, 3");
}

TEST(MambaModel, StartTokenOutsideTheVocabularyMattersOnlyWhereItIsUsed) {
  for (const Json& bad : {Json(50), Json(-1), Json("a"), Json::array(), Json(1e300)}) {
    const Source source(testing::toy_mamba({}), {{"bos_token_id", bad}});
    const auto model = source.model();
    EXPECT_EQ(logits_of(*model, toy_ids()).size(2), 50);
    EXPECT_ERROR(model->start_token(), ExitCode::kFailed, "bos_token_id: is ");
  }
}

TEST(MambaConfig, MissingOrMisshapenTensorsAreErrorsThatNameThem) {
  testing::TensorMap tensors = testing::toy_mamba({});
  tensors.erase("backbone.embeddings.weight");
  EXPECT_ERROR(read_mamba_config(*Source(tensors)), ExitCode::kFailed, "backbone.embeddings.weight");
  for (const char* name : {"dt_proj.weight", "conv1d.weight"}) {
    tensors = testing::toy_mamba({});
    tensors.erase(kMixer + name);
    EXPECT_ERROR(read_mamba_config(*Source(tensors)), ExitCode::kFailed, kMixer + name);
  }
  tensors = testing::toy_mamba({});
  tensors[kMixer + "A_log"] = at::ones({48});
  EXPECT_ERROR(read_mamba_config(*Source(tensors)), ExitCode::kFailed, kMixer + "A_log");
  tensors[kMixer + "A_log"] = at::ones({48, 257});
  EXPECT_ERROR(read_mamba_config(*Source(tensors)), ExitCode::kFailed, "257");
}

TEST(MambaModel, ATensorWhoseShapeDisagreesIsAnErrorThatNamesIt) {
  for (const char* name : {"in_proj.weight", "x_proj.weight", "dt_proj.bias", "D", "out_proj.weight"}) {
    testing::TensorMap tensors = testing::toy_mamba({});
    tensors[kMixer + name] = at::ones({5});
    const Source source(tensors);
    EXPECT_ERROR(source.model()->load_block(0), ExitCode::kFailed, kMixer + name);
  }
}

TEST(FindArchitecture, UnknownTensorsAreListedWithWhatIsSupported) {
  const Source source({{"model.layers.0.self_attn.q_proj.weight", at::ones({2, 2})}},
                      {{"architectures", {"GemmaForCausalLM"}}});
  EXPECT_ERROR(find_architecture(*source, "here", "quamba is for Mamba"), ExitCode::kFailed,
               "GemmaForCausalLM is not supported");
  EXPECT_ERROR(find_architecture(*source, "here", "quamba is for Mamba"), ExitCode::kFailed,
               "self_attn.q_proj.weight");
  EXPECT_ERROR(find_architecture(*source, "here", "quamba is for Mamba"), ExitCode::kFailed,
               "quamba is for Mamba");
}

TEST(FindArchitecture, ADeclaredArchitectureThatIsNotTheMatchedOnesIsRefused) {
  const testing::TensorMap tensors = testing::toy_mamba({});
  const std::vector<std::pair<Json, const char*>> cases = {
      {{{"architectures", {"HawkForCausalLM"}}},
       "HawkForCausalLM is not supported; its tensors have "
       "the names of mamba"},
      {{{"model_type", "hawk"}}, "hawk is not supported"},
      {{{"architectures", {"FooForCausalLM"}}, {"model_type", "foo"}},
       "FooForCausalLM, foo is not supported"},
      {{{"architectures", {"MambaForCausalLM"}}, {"model_type", "falcon_mamba"}},
       "falcon_mamba is not supported"},
      {{{"architectures", "FooForCausalLM"}}, "FooForCausalLM is not supported"},
      {{{"architectures", {"LlamaForCausalLM"}}, {"model_type", "llama"}},
       "no tensor's name begins with model.layers."},
  };
  for (const auto& [json, words] : cases) {
    const Source source(tensors, json);
    EXPECT_EQ(match_architecture(*source), nullptr);
    EXPECT_ERROR(find_architecture(*source, "here"), ExitCode::kFailed, words);
  }
  for (const Json& json : {Json(), Json({{"model_type", nullptr}}), Json({{"architectures", nullptr}}),
                           Json({{"architectures", {"MambaForCausalLM"}}, {"model_type", "mamba"}})}) {
    EXPECT_STREQ(find_architecture(*Source(tensors, json), "here").name, "mamba");
  }
}

class ExpectAllRead : public ::testing::Test {
 protected:
  static void check(const testing::TensorMap& tensors, const Json& config = {}) {
    const Source source(tensors, config);
    expect_all_read(find_architecture(*source, "here"), *source, "here");
  }
  testing::TensorMap tensors_ = testing::toy_mamba({});
};

TEST_F(ExpectAllRead, TensorsThatNoBlockReadsAreListed) {
  for (const char* name : {"backbone.layers.0.mixer.in_proj.lora_A", "backbone.layers.1.mlp.fc1.weight",
                           "backbone.layers.0.norm.bias", "backbone.layers.1.mixer.in_proj.pre_quant_scale",
                           "lm_head.bias", "backbone.layers.0.mixer.x_proj.bias", "mtp.0.weight"}) {
    testing::TensorMap tensors = tensors_;
    tensors[name] = at::ones({4, 24});
    EXPECT_ERROR(check(tensors), ExitCode::kFailed,
                 std::string("here: 1 tensor is not used by a mamba model, so this is another one: ") + name);
  }
  for (int i = 0; i < 9; ++i) tensors_["extra." + std::to_string(i)] = at::ones({1});
  EXPECT_ERROR(check(tensors_), ExitCode::kFailed, "9 tensors are not used");
}

TEST_F(ExpectAllRead, WhatHoldsNothingAndCopiesAreLetBy) {
  tensors_["backbone.layers.0.self_attn.rotary_emb.inv_freq"] = at::ones({4});
  tensors_["backbone.layers.0.attention.masked_bias"] = at::ones({1});
  tensors_["backbone.layers.0.mixer._extra_state"] = at::ones({1});
  tensors_["backbone.embedding.weight"] = tensors_["backbone.embeddings.weight"].clone();
  tensors_["lm_head.weight"] = tensors_["backbone.embeddings.weight"].clone();
  EXPECT_NO_THROW(check(tensors_, {{"tie_word_embeddings", true}}));
  tensors_["backbone.embeddings.weight"] = tensors_["backbone.embeddings.weight"] * 2;
  EXPECT_ERROR(check(tensors_), ExitCode::kFailed,
               "not used by a mamba model, so this is another one: backbone.emb");
}

TEST(MambaModel, HeadStoredAsACopyIsTiedAndGivesTheSameLogits) {
  testing::TensorMap tensors = testing::toy_mamba({});
  const Source absent(tensors);
  tensors["lm_head.weight"] = tensors["backbone.embeddings.weight"].clone();
  const Source copied(tensors, {{"tie_word_embeddings", true}});
  const auto model = copied.model();
  EXPECT_EQ(model->outer_weights().size(), 2U);
  EXPECT_EQ(model->notes().size(), 1U);
  EXPECT_TRUE(at::equal(logits_of(*model, toy_ids()), logits_of(*absent.model(), toy_ids())));
}

TEST(MambaModel, HeadThatDiffersFromTheEmbeddingIsUsedEvenIfDeclaredTied) {
  testing::TensorMap tensors = testing::toy_mamba({});
  tensors["lm_head.weight"] = tensors["backbone.embeddings.weight"] * 2;
  const Source source(tensors, {{"tie_word_embeddings", true}});
  tensors.erase("lm_head.weight");
  const Source tied(tensors);
  const auto model = source.model();
  EXPECT_EQ(model->outer_weights().size(), 3U);
  EXPECT_EQ(model->warnings().size(), 1U);
  EXPECT_EQ(model->config()["tie_word_embeddings"], false);
  EXPECT_TRUE(
      at::allclose(logits_of(*model, toy_ids()), 2 * logits_of(*tied.model(), toy_ids()), 1e-5, 1e-5));
}

TEST(MambaModel, HeadThatIsNotStoredIsTheEmbeddingAndTheConfigurationSaysSo) {
  const Json json = {
      {"architectures", {"MambaForCausalLM"}}, {"model_type", "mamba"}, {"tie_word_embeddings", false}};
  const Source untied(testing::toy_mamba({}), json);
  const auto model = untied.model();
  ASSERT_EQ(model->warnings().size(), 1U);
  EXPECT_NE(model->warnings()[0].find("lm_head.weight is not stored"), std::string::npos);
  EXPECT_EQ(model->config()["tie_word_embeddings"], true);
  EXPECT_TRUE(
      at::equal(logits_of(*model, toy_ids()), logits_of(*Source(testing::toy_mamba({})).model(), toy_ids())));
}

TEST(MambaBlock, RoundingACloneLeavesTheOriginalAsItWas) {
  const Source source(testing::toy_mamba({}));
  const auto block = source.model()->load_block(0);
  const Tensor hidden = at::randn({1, 5, 24});
  const Tensor before = block->forward(hidden);
  ASSERT_EQ(block->sublayers().size(), 1U);
  Sublayer clone = block->sublayers()[0].clone();
  for (Linear* linear : clone.linears())
    linear->weight.set(round_to_nearest(linear->weight.values(), {4, Granularity::kTensor}));
  EXPECT_TRUE(at::equal(block->forward(hidden), before));
  EXPECT_FALSE(at::equal(clone.forward(hidden), before));
}

TEST(MambaBlock, UnknownSiteIsAnErrorWithASuggestion) {
  const Source source(testing::toy_mamba({}));
  EXPECT_ERROR(source.model()->load_block(0)->site("ssm.y"), ExitCode::kFailed,
               "no activation site \"ssm.y\"");
}

TEST(MambaBlock, LaterTokensDoNotChangeEarlierOutputs) {
  const Source source(testing::toy_mamba({}));
  const auto model = source.model();
  const Tensor all = logits_of(*model, toy_ids());
  const Tensor first = logits_of(*model, toy_ids().slice(1, 0, 5));
  EXPECT_TRUE(at::allclose(all.slice(1, 0, 5), first, 1e-5, 1e-5));
}

}  // namespace
}  // namespace ptq
