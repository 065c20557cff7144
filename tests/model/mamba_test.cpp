// Mamba models: what is read from a checkpoint, what is refused, and decoding with state.
#include <gtest/gtest.h>

#include <limits>

#include "../base/expect_error.h"
#include "../support/toy_source.h"
#include "model/mamba_config.h"
#include "ptq/model/decoder.h"
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
    EXPECT_EQ(weight.value.scalar_type(), at::kFloat);
    EXPECT_TRUE(at::equal(weight.value, values));
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
  EXPECT_TRUE(config.tied);
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
  EXPECT_EQ(config.start_token, 7);
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
      {"hidden_size", "24"}, {"d_model", "24"},    {"num_hidden_layers", "2"},  {"n_layer", "2"},
      {"state_size", "8"},   {"conv_kernel", "3"}, {"intermediate_size", "48"}, {"time_step_rank", "2"}};
  for (const auto& [key, shape] : keys) {
    const Source source(testing::toy_mamba({}), {{key, 77}});
    EXPECT_ERROR(read_mamba_config(*source), ExitCode::kFailed,
                 std::string(key) + ": is 77, but the tensors' shapes say " + shape);
  }
}

TEST(MambaConfig, UnsupportedChoicesAreErrors) {
  const std::vector<std::pair<Json, const char*>> cases = {
      {{{"hidden_act", "gelu"}}, "hidden_act"},
      {{{"rms_norm", false}}, "rms_norm"},
      {{{"bos_token_id", 50}}, "bos_token_id"},
      {{{"bos_token_id", -1}}, "bos_token_id"},
  };
  for (const auto& [json, words] : cases) {
    const Source source(testing::toy_mamba({}), json);
    EXPECT_ERROR(read_mamba_config(*source), ExitCode::kFailed, words);
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
  EXPECT_TRUE(
      at::allclose(logits_of(*model, toy_ids()), 2 * logits_of(*tied.model(), toy_ids()), 1e-5, 1e-5));
}

TEST(MambaBlock, RoundingACloneLeavesTheOriginalAsItWas) {
  const Source source(testing::toy_mamba({}));
  const auto block = source.model()->load_block(0);
  const Tensor hidden = at::randn({1, 5, 24});
  const Tensor before = block->forward(hidden);
  const auto clone = block->clone();
  for (Linear* linear : clone->linears())
    linear->weight.set_quantized(round_to_nearest(linear->weight.value, {4, Granularity::kTensor}));
  EXPECT_TRUE(at::equal(block->forward(hidden), before));
  EXPECT_FALSE(at::equal(clone->forward(hidden), before));
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

class DecoderSteps : public ::testing::TestWithParam<int64_t> {};

TEST_P(DecoderSteps, GiveTheLogitsOfAllAtOnce) {
  const Source source(testing::toy_mamba({24, 48, 8, 4}));
  const auto model = source.model();
  const Tensor expected = logits_of(*model, toy_ids());
  Decoder decoder(*model, 2);
  for (int64_t begin = 0; begin < 12; begin += GetParam()) {
    const int64_t end = std::min<int64_t>(12, begin + GetParam());
    const Tensor logits = decoder.advance(toy_ids().slice(1, begin, end));
    EXPECT_TRUE(at::allclose(logits, expected.select(1, end - 1), 0, 1e-4)) << begin;
    // Without what came before, the logits are others: the state matters.
    if (begin > 0) {
      Decoder fresh(*model, 2);
      EXPECT_FALSE(at::allclose(fresh.advance(toy_ids().slice(1, begin, end)), logits, 0, 1e-4));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Lengths, DecoderSteps, ::testing::Values(1, 2, 5, 12));

TEST(Sample, ZeroTemperatureTakesTheLargestLogit) {
  const Tensor logits = at::tensor({0.F, 3.F, 1.F, 5.F, -1.F, 2.F}).reshape({2, 3});
  EXPECT_TRUE(at::equal(sample(logits, 0, 1, 0), at::tensor({1, 0}).to(at::kLong).reshape({2, 1})));
}

TEST(Sample, FollowsTheDistributionAndTheSeed) {
  const Tensor logits = at::tensor({0.F, 1.F, 2.F}).reshape({1, 3}).expand({3000, 3});
  const Tensor ids = sample(logits, 1, 5, 0);
  const Tensor frequencies = at::bincount(ids.flatten(), {}, 3).to(at::kFloat) / 3000;
  EXPECT_TRUE(at::allclose(frequencies, at::softmax(logits[0], 0), 0, 0.04));
  EXPECT_TRUE(at::equal(sample(logits, 1, 5, 0), ids));
  EXPECT_FALSE(at::equal(sample(logits, 1, 6, 0), ids));
  EXPECT_FALSE(at::equal(sample(logits, 1, 5, 1), ids));
  // A row's draw does not depend on how many rows there are.
  EXPECT_TRUE(at::equal(sample(logits.slice(0, 0, 10), 1, 5, 0), ids.slice(0, 0, 10)));
}

}  // namespace
}  // namespace ptq
