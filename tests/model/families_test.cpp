// Every architecture of tests/golden/models/families: what may be folded, what is refused, how texts are split.
#include <gtest/gtest.h>

#include <filesystem>

#include "../base/expect_error.h"
#include "../support/toy_source.h"
#include "model/router.h"
#include "ptq/checkpoint/checkpoint.h"
#include "ptq/model/model.h"

namespace ptq {
namespace {

namespace fs = std::filesystem;
using testing::Source;
using testing::TensorMap;

const std::string kFamilies = PTQ_TEST_DIR "/../golden/models/families/";

struct Family {
  TensorMap tensors;
  Json config;
};

Family read_family(const std::string& name) {
  const auto checkpoint = open_checkpoint(kFamilies + name);
  Family family{{}, checkpoint->config()};
  for (const TensorInfo& info : checkpoint->tensors())
    family.tensors[info.name] = as_tensor(checkpoint->read(info.name)).clone();
  return family;
}

std::vector<std::string> family_names() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(kFamilies))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

// The model of the family with some fields of the configuration replaced.
std::unique_ptr<Model> make(const WeightSource& source) {
  return find_architecture(source, "test").make(source);
}

Json with(Json config, const Json& fields) {
  for (const auto& [key, value] : fields.items()) config[key] = value;
  return config;
}

class EveryFamily : public ::testing::TestWithParam<std::string> {};

// One random scale for each row that makes channels.
Tensor random_scales(const FoldEdge& edge, int64_t channels) {
  const int64_t rows = edge.row_of.defined() ? edge.row_of.max().item<int64_t>() + 1 : channels;
  const Tensor by_row = at::rand({rows}) * 1.5 + 0.5;
  return edge.row_of.defined() ? by_row.index_select(0, edge.row_of) : by_row;
}

TEST_P(EveryFamily, ComputesTheSameWhenChannelsOfAnyEdgeAreScaled) {
  at::manual_seed(1);
  const Family family = read_family(GetParam());
  const Source source(family.tensors, family.config);
  const std::unique_ptr<Model> model = make(*source);
  const Tensor x = at::randn({2, 9, model->hidden_size()});
  size_t edges = 0;
  for (int64_t i = 0; i < model->num_blocks(); ++i) {
    const std::unique_ptr<Block> block = model->load_block(i);
    const Tensor before = block->forward(x);
    for (const FoldEdge& edge : block->fold_edges()) {
      ++edges;
      fold_scales(edge, random_scales(edge, edge.readers.front()->weight.size(1)));
      const double error = ((block->forward(x) - before).norm() / (before - x).norm()).item<double>();
      EXPECT_LT(error, 1e-4) << block->prefix() << " " << edge.sites.front();
    }
  }
  EXPECT_GT(edges, 0U);
}

TEST_P(EveryFamily, GivesTheSameForAnySplitOfAText) {
  at::manual_seed(2);
  const Family family = read_family(GetParam());
  const Source source(family.tensors, family.config);
  const std::unique_ptr<Model> model = make(*source);
  const Tensor x = at::randn({2, 24, model->hidden_size()});
  for (int64_t i = 0; i < model->num_blocks(); ++i) {
    const std::unique_ptr<Block> block = model->load_block(i);
    const Tensor whole = block->forward(x);
    for (const int64_t first : {1, 11}) {
      BlockState state = block->initial_state(2);
      for (PartState& part : state.parts) part.text_length = 24;
      const Tensor parts =
          at::cat({block->forward(x.slice(1, 0, first), &state),
                   block->forward(x.slice(1, first, 23), &state), block->forward(x.slice(1, 23), &state)},
                  1);
      EXPECT_LT((parts - whole).abs().max().item<double>(), 1e-4) << block->prefix() << " " << first;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, EveryFamily, ::testing::ValuesIn(family_names()), [](const auto& family) {
  std::string name = family.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

struct Refusal {
  const char* family;
  Json fields;
  const char* words;
};

TEST(Families, WhatAConfigurationAsksForAndIsNotDoneIsRefusedByName) {
  const std::vector<Refusal> refusals = {
      {"gemma2", {{"hidden_activation", "quick_gelu"}}, "hidden_activation: \"quick_gelu\" is not supported"},
      {"gemma2", {{"query_pre_attn_scalar", 0}}, "query_pre_attn_scalar: is 0"},
      {"gemma2", {{"use_bidirectional_attention", true}}, "use_bidirectional_attention"},
      {"gemma2", {{"layer_types", {"full_attention"}}}, "layer_types: must be an array of 3 types"},
      {"gemma3", {{"layer_types", {"a", "b", "c", "d"}}}, "layer_types: the type \"a\" is not supported"},
      {"phi3", {{"intermediate_size", 45}}, "intermediate_size: is 45, but the tensors' shapes say 44"},
      {"phi3",
       {{"rope_parameters",
         {{"rope_type", "longrope"},
          {"rope_theta", 1e4},
          {"partial_rotary_factor", 0.75},
          {"short_factor", {1, 2}},
          {"long_factor", {1, 2, 3, 4, 5, 6}}}}},
       "short_factor: must be an array of 6 numbers"},
      {"olmo2", {{"clip_qkv", 2}}, "clip_qkv"},
      {"granite", {{"logits_scaling", -1}}, "logits_scaling: is -1"},
      {"stablelm", {{"rope_pct", 0.5}, {"rope_percent", 0.5}}, "rope_percent"},
      {"gpt-neox", {{"hidden_act", "quick_gelu"}}, "hidden_act"},
      {"gpt-neox", {{"attention_bias", false}}, "query_key_value.bias is stored"},
      {"opt", {{"layer_norm_elementwise_affine", false}}, "layer_norm_elementwise_affine"},
      {"opt", {{"max_position_embeddings", 64}}, "max_position_embeddings: is 64"},
      {"falcon-mamba", {{"hidden_act", "gelu"}}, "hidden_act"},
      {"falcon-mamba", {{"time_step_rank", 7}}, "time_step_rank: is 7"},
      {"jamba", {{"num_experts_per_tok", 9}}, "chooses among 4 experts"},
      {"jamba", {{"num_experts", 8}}, "num_experts: is 8"},
      {"mixtral", {{"num_local_experts", 5}}, "num_local_experts: is 5"},
      {"qwen2-moe", {{"mlp_only_layers", {7}}}, "mlp_only_layers: holds 7"},
      {"qwen2-moe", {{"moe_intermediate_size", 21}}, "moe_intermediate_size: is 21"},
      {"bamba", {{"attn_layer_indices", {3}}}, "attn_layer_indices: holds 3"},
      {"bamba", {{"attn_rotary_emb", 4}}, "attn_rotary_emb: is 4"},
      {"bamba", {{"mamba_n_groups", 3}}, "mamba_n_groups"},
      {"granite4", {{"position_embedding_type", "alibi"}}, "position_embedding_type: \"alibi\""},
      {"granite4", {{"layer_types", nullptr}}, "\"layer_types\" is missing"},
      {"falcon-h1", {{"ssm_multipliers", {1, 2}}}, "ssm_multipliers: must be a list of 5 numbers"},
      {"falcon-h1", {{"mamba_n_heads", 11}}, "mamba_n_heads: is 11"},
      {"nemotron-h", {{"n_group", 3}}, "n_group"},
      {"nemotron-h", {{"mamba_hidden_act", "relu"}}, "mamba_hidden_act"},
      {"nemotron-h",
       {{"layers_block_type", nullptr}, {"hybrid_override_pattern", "M-*X"}},
       "hybrid_override_pattern: has the letter \"X\""},
      {"mamba2", {{"head_dim", 5}}, "head_dim: is 5"},
  };
  for (const Refusal& refusal : refusals) {
    SCOPED_TRACE(std::string(refusal.family) + " " + refusal.fields.dump());
    const Family family = read_family(refusal.family);
    const Json config = with(family.config, refusal.fields);
    const Source source(family.tensors, config);
    EXPECT_ERROR(make(*source), ExitCode::kFailed, refusal.words);
  }
}

TEST(Families, KeyThatIsNotKnownIsNamedInAWarning) {
  const Family family = read_family("gemma2");
  const Json config = with(family.config, {{"a_key_of_tomorrow", 3}});
  const Source source(family.tensors, config);
  const std::vector<std::string> warnings = make(*source)->warnings();
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_NE(warnings[0].find("a_key_of_tomorrow"), std::string::npos);
}

TEST(LongRope, TextThatBecomesLongIsAnErrorUnlessItsLengthWasGiven) {
  const Family family = read_family("phi3-short");  // short up to 128 tokens
  const Source source(family.tensors, family.config);
  const std::unique_ptr<Model> model = make(*source);
  const std::unique_ptr<Block> block = model->load_block(0);
  const Tensor x = at::randn({1, 140, model->hidden_size()});
  BlockState state = block->initial_state(1);
  block->forward(x.slice(1, 0, 120), &state);
  EXPECT_ERROR(block->forward(x.slice(1, 120), &state), ExitCode::kFailed, "has reached token 140");

  state = block->initial_state(1);
  for (PartState& part : state.parts) part.text_length = 140;
  const Tensor parts =
      at::cat({block->forward(x.slice(1, 0, 120), &state), block->forward(x.slice(1, 120), &state)}, 1);
  EXPECT_LT((parts - block->forward(x)).abs().max().item<double>(), 1e-4);
}

TEST(Positions, TextBeyondThoseThereAreIsAnError) {
  const Family family = read_family("opt");  // 128 positions
  const Source source(family.tensors, family.config);
  const std::unique_ptr<Model> model = make(*source);
  EXPECT_NO_THROW(model->embed(at::zeros({1, 28}, at::kLong), 100));
  EXPECT_ERROR(model->embed(at::zeros({1, 29}, at::kLong), 100), ExitCode::kFailed, "has 128 positions");
}

TEST(Router, WeightsOfTheChosenAreWhatTheScoreSays) {
  const Tensor logits = at::tensor({0.0F, 1.0F, 3.0F, 2.0F}).unsqueeze(0);
  const Tensor p = logits.softmax(-1)[0];
  RouterLayout layout{.chosen = 2};
  std::vector<Routed> routed = route(layout, logits, {});
  EXPECT_TRUE(routed[0].tokens.empty() && routed[1].tokens.empty());
  EXPECT_FLOAT_EQ(routed[2].weights.at(0), p[2].item<float>());
  layout.normed = true;
  layout.scale = 3;
  routed = route(layout, logits, {});
  EXPECT_FLOAT_EQ(routed[2].weights.at(0), (3 * p[2] / (p[2] + p[3])).item<float>());
  layout = {.score = RouterLayout::Score::kSoftmaxOfChosen, .chosen = 2};
  routed = route(layout, logits, {});
  EXPECT_FLOAT_EQ(routed[3].weights.at(0), 1 / (1 + std::exp(1.0F)));
  // Chosen with the bias, weighted without.
  layout = {.score = RouterLayout::Score::kSigmoid, .chosen = 1};
  routed = route(layout, logits, at::tensor({10.0F, 0.0F, 0.0F, 0.0F}));
  EXPECT_FLOAT_EQ(routed[0].weights.at(0), 0.5F);
}

TEST(Router, LooksAtTheBestGroupsAlone) {
  RouterLayout layout{.score = RouterLayout::Score::kSigmoid, .chosen = 2, .groups = 2, .chosen_groups = 1};
  // The best expert is in the first group; the second group has the better pair.
  const std::vector<Routed> routed =
      route(layout, at::tensor({3.0F, -9.0F, -9.0F, 2.0F, 2.5F, -9.0F}).unsqueeze(0), {});
  EXPECT_TRUE(routed[0].tokens.empty());
  EXPECT_EQ(routed[3].tokens.size() + routed[4].tokens.size(), 2U);
}

TEST(Experts, TensorOfAllIsReadAsOneForEach) {
  const auto checkpoint = open_checkpoint(kFamilies + "granite4");
  const std::string prefix = "model.layers.1.block_sparse_moe.input_linear";
  EXPECT_EQ(checkpoint->find(prefix + ".weight"), nullptr);
  const TensorInfo* last = checkpoint->find(prefix + ".3.weight");
  ASSERT_NE(last, nullptr);
  EXPECT_EQ(last->shape, (std::vector<int64_t>{40, 48}));
  EXPECT_EQ(checkpoint->find(prefix + ".4.weight"), nullptr);
}

}  // namespace
}  // namespace ptq
