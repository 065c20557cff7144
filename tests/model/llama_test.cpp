// Llama-like transformers: attention, states, sites and rewrites.
#include <gtest/gtest.h>

#include "../base/expect_error.h"
#include "../support/toy_llama.h"
#include "../support/toy_source.h"
#include "model/attention.h"
#include "model/llama_config.h"
#include "ptq/model/model.h"

namespace ptq {
namespace {

using testing::clone_of;
using testing::logits_of;
using testing::odd_llamas;
using testing::Source;
using testing::toy_ids;
using testing::toy_llama;
using testing::ToyModel;

// Softmax over all keys with the mask written out.
Tensor plain_attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t window) {
  const int64_t group = q.size(1) / k.size(1), length = q.size(2), past = k.size(2) - length;
  const Tensor keys = k.repeat_interleave(group, 1), values = v.repeat_interleave(group, 1);
  Tensor scores = at::matmul(q, keys.transpose(2, 3)) / std::sqrt(static_cast<double>(q.size(3)));
  const Tensor distance = at::arange(past, past + length).unsqueeze(1) - at::arange(past + length);
  Tensor hidden = distance.lt(0);
  if (window != 0) hidden = hidden.logical_or(distance.ge(window));
  scores = scores.masked_fill(hidden, -std::numeric_limits<float>::infinity());
  return at::matmul(at::softmax(scores, -1), values).transpose(1, 2);
}

TEST(Attend, IsSoftmaxOverWhatAQueryMaySee) {
  for (const auto& [length, past, window] : std::vector<std::array<int64_t, 3>>{{7, 0, 0},
                                                                                {7, 0, 3},
                                                                                {7, 0, 7},
                                                                                {1, 6, 0},
                                                                                {1, 6, 4},
                                                                                {1, 6, 1},
                                                                                {5, 6, 0},
                                                                                {5, 6, 4},
                                                                                {5, 6, 1},
                                                                                {5, 6, 11},
                                                                                {1100, 3, 0},
                                                                                {1100, 0, 40},
                                                                                {1100, 39, 40}}) {
    SCOPED_TRACE(std::to_string(length) + " after " + std::to_string(past) + ", window " +
                 std::to_string(window));
    const Tensor q = at::randn({2, 6, length, 8});
    const Tensor k = at::randn({2, 2, past + length, 8}), v = at::randn({2, 2, past + length, 8});
    EXPECT_TRUE(
        at::allclose(attend(q, k, v, {.window = window}), plain_attention(q, k, v, window), 1e-4, 1e-5));
    const Tensor single = at::randn({2, 6, past + length, 8});
    EXPECT_TRUE(at::allclose(attend(q, single, single, {.window = window}),
                             plain_attention(q, single, single, window), 1e-4, 1e-5));
  }
}

TEST(LlamaModel, WindowHidesOlderTokens) {
  ToyModel toy = toy_llama({.layers = 1});
  declare(toy, "mistral");
  toy.config["sliding_window"] = 4;
  const Source source(toy.tensors, toy.config);
  Tensor other = toy_ids().clone();
  other.select(1, 0).add_(1).remainder_(50);
  const Tensor a = logits_of(*source.model(), toy_ids()), b = logits_of(*source.model(), other);
  EXPECT_FALSE(at::allclose(a.select(1, 3), b.select(1, 3), 0, 1e-4));
  EXPECT_TRUE(at::allclose(a.slice(1, 4), b.slice(1, 4), 0, 1e-5));
}

TEST(LlamaModel, StateKeepsNoMoreThanTheWindowReaches) {
  ToyModel toy = toy_llama({});
  declare(toy, "mistral");
  toy.config["sliding_window"] = 4;
  const Source source(toy.tensors, toy.config);
  const auto block = source.model()->load_block(0);
  BlockState state = block->initial_state(2);
  block->forward(at::randn({2, 9, 24}), &state);
  EXPECT_EQ(state.parts[0].keys.values().sizes(), at::IntArrayRef({2, 1, 3, 12}));
  EXPECT_EQ(state.parts[0].values.values().sizes(), at::IntArrayRef({2, 1, 3, 12}));
  EXPECT_EQ(state.parts[0].past, 9);
}

TEST(LlamaModel, SaysWhatItIs) {
  const ToyModel toy = toy_llama({.tied = false});
  const Source source(toy.tensors, toy.config);
  const auto model = source.model();
  EXPECT_EQ(model->context_limit(), 128);
  EXPECT_EQ(model->start_token(), 1);
  EXPECT_EQ(model->config(), toy.config);
  EXPECT_EQ(model->outer_weights().size(), 3U);
  EXPECT_EQ(model->load_block(1)->prefix(), "model.layers.1");
  int64_t parameters = 0;
  for (const auto& [name, tensor] : toy.tensors) parameters += tensor.numel();
  EXPECT_EQ(model->num_parameters(), parameters);
}

TEST(LlamaModel, KeyHeadsThatTheConfigurationLeavesOutAreStated) {
  for (const bool null : {true, false}) {
    ToyModel toy = toy_llama({64, 4, 2, 96});
    toy.config.erase("num_key_value_heads");
    if (null) toy.config["num_key_value_heads"] = nullptr;
    const Source source(toy.tensors, toy.config);
    const auto model = source.model();
    EXPECT_EQ(model->config()["num_key_value_heads"], 2);
    ASSERT_EQ(model->warnings().size(), 1U);
    EXPECT_NE(model->warnings()[0].find("the tensors have 2 key heads"), std::string::npos);
  }
}

struct Recorder : Observer {
  void observe(const Site& site, const Tensor& x) override {
    order.push_back(site.name + " " + std::to_string(x.size(-1)));
  }
  std::vector<std::string> order;
};

TEST(LlamaBlock, SitesAreReachedOnceEachInTheirOrder) {
  const ToyModel toy = toy_llama({64, 4, 2, 96});
  const Source source(toy.tensors, toy.config);
  const auto block = source.model()->load_block(0);
  for (const Site* site : block->sites()) {
    EXPECT_EQ(site->kind, site->name.starts_with("attn.") ? "attention" : "linear_input");
    EXPECT_EQ(site->head_dim, site->name.starts_with("attn.") ? 16 : 0);
  }
  Recorder recorder;
  block->forward(at::randn({2, 5, 64}), nullptr, &recorder);
  EXPECT_EQ(recorder.order, (std::vector<std::string>{"qkv.input 64", "attn.q 64", "attn.k 32", "attn.v 32",
                                                      "o.input 64", "gate_up.input 64", "down.input 96"}));
  for (Linear* linear : block->linears()) EXPECT_NO_THROW(block->site(linear->site));
}

TEST(LlamaBlock, AttentionAndFeedForwardAreSublayersWithSitesOfTheirOwn) {
  const ToyModel toy = toy_llama({});
  const Source source(toy.tensors, toy.config);
  const auto block = source.model()->load_block(1);
  std::vector<std::vector<std::string>> sites;
  for (Sublayer& sublayer : block->sublayers()) {
    EXPECT_EQ(sublayer.prefix, "model.layers.1");
    sites.emplace_back();
    for (const Site* site : sublayer.sites()) sites.back().push_back(site->name);
    for (const Linear* linear : sublayer.linears()) EXPECT_NE(sublayer.find_site(linear->site), nullptr);
  }
  EXPECT_EQ(sites,
            (std::vector<std::vector<std::string>>{{"qkv.input", "attn.q", "attn.k", "attn.v", "o.input"},
                                                   {"gate_up.input", "down.input"}}));
}

TEST(LlamaBlock, CacheHoldsTheRoundedKeysAndValues) {
  const ToyModel toy = toy_llama({});
  const Source source(toy.tensors, toy.config);
  const auto block = source.model()->load_block(0);
  for (const char* name : {"attn.k", "attn.v"})
    block->site(name).quantizer = ActivationQuantizer::fixed(0.25, 8);
  BlockState state = block->initial_state(1);
  block->forward(at::randn({1, 5, 24}), &state);
  for (const CachedRows* rows : {&state.parts[0].keys, &state.parts[0].values}) {
    const Tensor codes = rows->values() * 4;
    EXPECT_TRUE(at::equal(codes, codes.round()));
    EXPECT_GT(codes.abs().max().item<double>(), 1);
  }
}

TEST(LlamaBlock, ScalesMoveAlongItsEdges) {
  for (const ToyModel& toy : odd_llamas()) {
    SCOPED_TRACE(toy.config.dump());
    const Source source(toy.tensors, toy.config);
    const auto original = source.model()->load_block(0), block = clone_of(*original);
    const Tensor hidden = at::randn({2, 9, toy.config["hidden_size"].get<int64_t>()});
    for (FoldEdge& edge : block->fold_edges()) {
      const int64_t channels = edge.readers.at(0)->weight.size(1);
      const int64_t rows = edge.row_of.defined() ? edge.row_of.max().item<int64_t>() + 1 : channels;
      const Tensor scale = at::rand({rows}) * 3 + 0.3;
      for (const FoldEdge::Rows& producer : edge.producers) {
        EXPECT_EQ(producer.weight->size(0), producer.first + rows);
      }
      const Tensor column = edge.row_of.defined() ? scale.index_select(0, edge.row_of) : scale;
      ASSERT_EQ(column.numel(), channels);
      for (Linear* reader : edge.readers) EXPECT_EQ(reader->site, edge.sites.at(0));
      std::vector<Tensor> before;
      for (const FoldEdge::Rows& producer : edge.producers) before.push_back(producer.weight->values());
      fold_scales(edge, column);
      for (size_t i = 0; i < before.size(); ++i) {
        const FoldEdge::Rows& producer = edge.producers[i];
        EXPECT_FALSE(at::allclose(producer.weight->values(), before[i]));
        EXPECT_TRUE(at::allclose(unfolded(edge, producer, column, producer.weight->values()), before[i]));
      }
    }
    EXPECT_TRUE(at::allclose(block->forward(hidden), original->forward(hidden), 1e-4, 1e-4));
  }
}

TEST(LlamaBlock, EdgesAreThoseOfEverySiteThatLinearsRead) {
  const ToyModel toy = toy_llama({.biases = true});
  const Source source(toy.tensors, toy.config);
  const auto block = source.model()->load_block(0);
  const std::vector<FoldEdge> edges = block->fold_edges();
  std::vector<std::string> found;
  for (const FoldEdge& edge : edges) {
    std::string text = edge.sites.at(0) + ":";
    for (const Linear* reader : edge.readers) text += " " + reader->name.substr(reader->name.rfind('.') + 1);
    found.push_back(text + ", " + std::to_string(edge.producers.size()));
  }
  EXPECT_EQ(found,
            (std::vector<std::string>{"qkv.input: q_proj k_proj v_proj, 1", "o.input: o_proj, 2",
                                      "gate_up.input: up_proj gate_proj, 1", "down.input: down_proj, 2"}));
}

TEST(LlamaBlock, OneRotationOfQueriesAndKeysChangesNothing) {
  const ToyModel toy = toy_llama({64, 4, 2, 96});
  const Source source(toy.tensors, toy.config);
  const auto original = source.model()->load_block(0), block = clone_of(*original);
  ASSERT_EQ(block->sublayers().at(0).product_pairs().size(), 1U);
  EXPECT_TRUE(block->sublayers().at(1).product_pairs().empty());
  const ProductPair pair = block->sublayers()[0].product_pairs()[0];
  const BlockRotation rotation{std::get<0>(at::linalg_qr(at::randn({pair.width, pair.width})))};
  for (const std::string& name : {pair.left, pair.right})
    block->site(name).transform.stages.push_back(rotation);
  const Tensor hidden = at::randn({2, 9, 64});
  EXPECT_TRUE(at::allclose(block->forward(hidden), original->forward(hidden), 1e-4, 1e-4));
}

}  // namespace
}  // namespace ptq
