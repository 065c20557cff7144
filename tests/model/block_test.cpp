// Blocks put together from parts, and scales folded across their edges.
#include "ptq/model/block.h"

#include <gtest/gtest.h>

#include "../base/expect_error.h"
#include "model/reading.h"

namespace ptq {
namespace {

// W x, read through one site; with a state, that plus what the state holds.
class Product : public Part {
 public:
  Product(const std::string& name, Tensor W) : site_(make_site(name.c_str(), "linear_input")) {
    linear_.name = name;
    linear_.site = name;
    linear_.weight = {name + ".weight", Role::kLinear, std::move(W), at::kFloat};
  }
  std::unique_ptr<Part> clone() const override { return std::make_unique<Product>(*this); }
  Tensor forward(const Tensor& x, PartState* state, Observer* observer) const override {
    const Tensor y = linear_(site_(x, observer));
    return state == nullptr ? y : y + state->tensors.at(0);
  }
  PartState initial_state(int64_t batch, CacheFloats) const override {
    return {{at::full({batch, 1, 1}, linear_.weight.values()[0][0].item<double>())}};
  }
  std::vector<PartInput> inputs() override { return {{site_.name, {&linear_}}}; }
  std::vector<Site*> sites() override { return {&site_}; }
  std::vector<Linear*> linears() override { return {&linear_}; }
  std::vector<Weight*> weights() override { return weights_of(linears()); }
  std::vector<FoldEdge> fold_edges() override { return {}; }
  MixingCost mixing_cost(int64_t length) const override { return {static_cast<double>(length), 3}; }

 private:
  Linear linear_;
  Site site_;
};

constexpr double kEps = 1e-5;

Norm norm_of(const std::string& name, const Tensor& gain) {
  return {{name, Role::kNorm, gain, at::kFloat}, kEps};
}

Tensor normed(const Tensor& x, const Tensor& gain) {
  return x / (x.square().mean(-1, /*keepdim=*/true) + kEps).sqrt() * gain;
}

struct Example {
  Tensor g0 = at::rand({8}) + 0.5, g1 = at::rand({8}) + 0.5, g2 = at::rand({8}) + 0.5;
  Tensor A = at::randn({8, 8}), B = at::randn({8, 8}), C = at::randn({8, 8});
  Tensor x = at::randn({2, 3, 8});

  // Two branches on one norm, scaled, normed after; then one that reads the hidden states as they are.
  Block block() const {
    std::vector<Sublayer> sublayers(2);
    for (Sublayer& sublayer : sublayers) sublayer.prefix = "toy.0";
    sublayers[0].norms.push_back(norm_of("first", g0));
    sublayers[0].branches.push_back({std::make_unique<Product>("a", A), 0, 1, 0.5});
    sublayers[0].branches.push_back({std::make_unique<Product>("b", B), 0, 2, 1});
    sublayers[0].post = norm_of("after", g1);
    sublayers[0].residual_scale = 0.25;
    sublayers[1].norms.push_back(norm_of("unread", g2));
    sublayers[1].branches.push_back({std::make_unique<Product>("c", C), -1, 1, 1});
    return Block("toy.0", std::move(sublayers));
  }
};

TEST(Block, AddsTheNormedAndScaledSumOfItsBranches) {
  const Example e;
  const Tensor n = normed(e.x, e.g0);
  const Tensor sum = 0.5 * n.matmul(e.A.t()) + (2 * n).matmul(e.B.t());
  const Tensor middle = e.x + 0.25 * normed(sum, e.g1);
  const Tensor expected = middle + middle.matmul(e.C.t());
  EXPECT_TRUE(at::allclose(e.block().forward(e.x), expected, 1e-5, 1e-5));
}

TEST(Block, EveryBranchHasAStateOfItsOwn) {
  const Example e;
  Block block = e.block();
  BlockState state = block.initial_state(2);
  ASSERT_EQ(state.parts.size(), 3U);
  for (size_t i = 0; i < 3; ++i) {
    const Tensor& W = i == 0 ? e.A : i == 1 ? e.B : e.C;
    EXPECT_EQ(state.parts[i].tensors.at(0)[1].item<float>(), W[0][0].item<float>());
  }
  const Tensor n = normed(e.x, e.g0);
  const Tensor sum = 0.5 * (n.matmul(e.A.t()) + e.A[0][0]) + (2 * n).matmul(e.B.t()) + e.B[0][0];
  const Tensor middle = e.x + 0.25 * normed(sum, e.g1);
  const Tensor expected = middle + middle.matmul(e.C.t()) + e.C[0][0];
  EXPECT_TRUE(at::allclose(block.forward(e.x, &state), expected, 1e-5, 1e-5));
}

TEST(Block, ListsWhatItsSublayersHoldInOrder) {
  Block block = Example().block();
  std::vector<std::string> weights, sites;
  for (const Weight* weight : block.weights()) weights.push_back(weight->name);
  for (const Site* site : block.sites()) sites.push_back(site->name);
  EXPECT_EQ(weights,
            (std::vector<std::string>{"first", "after", "unread", "a.weight", "b.weight", "c.weight"}));
  EXPECT_EQ(sites, (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(block.mixing_cost(7).operations, 21);
  EXPECT_EQ(block.mixing_cost(7).state_values, 9);
}

TEST(Block, ANormThatFeedsTwoBranchesIsOneEdgeWithTwoSites) {
  const Example e;
  Block block = e.block();
  const std::vector<FoldEdge> edges = block.fold_edges();
  ASSERT_EQ(edges.size(), 1U);
  EXPECT_EQ(edges[0].sites, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(edges[0].readers.size(), 2U);
  const Tensor before = block.forward(e.x);
  fold_scales(edges[0], at::rand({8}) + 0.5);
  EXPECT_FALSE(at::allclose(block.weights()[0]->values(), e.g0));
  EXPECT_TRUE(at::allclose(block.forward(e.x), before, 1e-5, 1e-5));
}

TEST(Block, ForwardIsThatOfItsSublayersInTurnWithTheirStates) {
  const Example e;
  Block block = e.block();
  ASSERT_EQ(block.sublayers().size(), 2U);
  Tensor x = e.x;
  for (const Sublayer& sublayer : block.sublayers()) x = sublayer.forward(x);
  EXPECT_TRUE(at::equal(block.forward(e.x), x));
  BlockState state = block.initial_state(2);
  x = block.sublayers()[0].forward(e.x, state.parts.data());
  x = block.sublayers()[1].forward(x, state.parts.data() + 2);
  BlockState fresh = block.initial_state(2);
  EXPECT_TRUE(at::equal(block.forward(e.x, &fresh), x));
}

TEST(Block, ObserverSeesTheSitesInOrderOfTheForwardItIsPassedTo) {
  struct Recorder : Observer {
    void observe(const Site& site, const Tensor&) override { order.push_back(site.name); }
    std::vector<std::string> order;
  } recorder;
  const Example e;
  const Block block = e.block();
  const Tensor y = block.forward(e.x, nullptr, &recorder);
  EXPECT_EQ(recorder.order, (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_TRUE(at::equal(block.forward(e.x), y));
  EXPECT_EQ(recorder.order.size(), 3U);
}

TEST(Sublayer, SitesAreFoundByNameInTheirOwnSublayerOnly) {
  Block block = Example().block();
  Sublayer& first = block.sublayers()[0];
  EXPECT_EQ(first.find_site("b"), &first.site("b"));
  EXPECT_EQ(&block.site("b"), &first.site("b"));
  EXPECT_EQ(first.find_site("c"), nullptr);
  EXPECT_ERROR(first.site("c"), ExitCode::kFailed, "no activation site \"c\"");
  EXPECT_NE(block.sublayers()[1].find_site("c"), nullptr);
  EXPECT_ERROR(block.site("d"), ExitCode::kFailed, "no activation site \"d\"");
}

TEST(Sublayer, FoldingInACloneLeavesTheOriginalAsItWas) {
  const Example e;
  Block block = e.block();
  Sublayer& original = block.sublayers()[0];
  Sublayer copy = original.clone();
  EXPECT_EQ(copy.prefix, original.prefix);
  EXPECT_TRUE(at::equal(copy.forward(e.x), original.forward(e.x)));
  fold_scales(copy.fold_edges()[0], at::full({8}, 2.0));
  EXPECT_TRUE(at::equal(original.weights()[0]->values(), e.g0));
  EXPECT_TRUE(at::equal(copy.weights()[0]->values(), e.g0 / 2));
}

TEST(Sublayer, PreparedGivesTheBitsOfUnprepared) {
  const Example e;
  for (const auto& quantizer : {ActivationQuantizer(), ActivationQuantizer::fixed(0.1, 8),
                                ActivationQuantizer::per_token(8, /*symmetric=*/false)}) {
    Block block = e.block();
    for (Site* site : block.sites()) site->quantizer = quantizer;
    for (Linear* linear : block.linears())
      linear->weight.set(round_to_nearest(linear->weight.values(), {8, Granularity::kChannel}));
    const Tensor before = block.forward(e.x);
    for (Sublayer& sublayer : block.sublayers()) sublayer.prepare();
    EXPECT_TRUE(at::equal(block.forward(e.x), before)) << quantizer.kind_name();
  }
}

// A gain that is stored less 1, and rows whose channel is squared before it is read.
TEST(FoldEdge, OffsetAndPowerAreThoseOfWhatIsComputed) {
  Weight gain{"gain", Role::kNorm, at::tensor({0.5F, 1.0F, 3.0F}), at::kFloat};
  Weight rows{"rows", Role::kLinear, at::ones({4, 2}), at::kFloat};
  const FoldEdge edge{{"site"}, {{&gain, 0, 1, 1}, {&rows, 1, 0, 0.5}}, {}};
  const Tensor s = at::tensor({4.0F, 1.0F, 16.0F});
  fold_scales(edge, s);
  EXPECT_TRUE(at::equal(gain.values(), at::tensor({-0.625F, 1.0F, -0.75F})));
  EXPECT_TRUE(at::equal(rows.values().select(1, 0), at::tensor({1.0F, 0.5F, 1.0F, 0.25F})));
  EXPECT_TRUE(at::equal(unfolded(edge, edge.producers[0], s, gain.values()), at::tensor({0.5F, 1.0F, 3.0F})));
  EXPECT_TRUE(at::equal(unfolded(edge, edge.producers[1], s, rows.values()), at::ones({4, 2})));
}

}  // namespace
}  // namespace ptq
