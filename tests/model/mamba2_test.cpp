// The Mamba-2 mixer against its equations, and where its values may be scaled or turned.
#include <gtest/gtest.h>

#include <cmath>

#include "../support/toy_mamba2.h"
#include "../support/toy_source.h"
#include "model/parts.h"
#include "ptq/model/hadamard.h"

namespace ptq {
namespace {

using testing::Source;
using testing::TensorMap;

Mamba2Layout small_layout() {
  Mamba2Layout layout;
  layout.prefix = "m";
  layout.d_model = 10;
  layout.d_inner = 24;
  layout.heads = 6;
  layout.head_dim = 4;
  layout.groups = 2;
  layout.d_state = 5;
  layout.d_conv = 3;
  layout.conv_bias = true;
  layout.norm = {1e-5, 2, false};
  return layout;
}

// What an architecture may ask for.
std::vector<Mamba2Layout> layouts() {
  std::vector<Mamba2Layout> all(8, small_layout());
  all[1].norm->before_gate = true;
  all[2].norm.reset();
  all[3].norm->groups = 1;
  all[4].in_bias = all[4].out_bias = true;
  all[4].multipliers = {0.5, 2, 0.25, 3, 1.5};
  all[5].in_bias = true;
  all[5].conv_bias = false;
  all[5].D_by_channel = true;
  all[6].dt_low = 0.3;
  all[6].dt_high = 0.8;
  all[7].groups = 6;
  all[7].norm->groups = 6;
  return all;
}

TensorMap tensors_of(const Mamba2Layout& layout) {
  at::manual_seed(5);
  const int64_t d = layout.d_model, E = layout.d_inner, H = layout.heads;
  const int64_t conv = E + 2 * layout.groups * layout.d_state;
  TensorMap tensors = {{"m.in_proj.weight", at::randn({E + conv + H, d}) * 0.5},
                       {"m.conv1d.weight", at::randn({conv, 1, layout.d_conv})},
                       {"m.dt_bias", at::randn({H})},
                       {"m.A_log", at::randn({H})},
                       {"m.D", at::randn({layout.D_by_channel ? E : H})},
                       {"m.out_proj.weight", at::randn({d, E})}};
  if (layout.in_bias) tensors["m.in_proj.bias"] = at::randn({E + conv + H});
  if (layout.out_bias) tensors["m.out_proj.bias"] = at::randn({d});
  if (layout.conv_bias) tensors["m.conv1d.bias"] = at::randn({conv});
  if (layout.norm) tensors["m.norm.weight"] = at::randn({E});
  return tensors;
}

// The equations, a token and a head at a time, in float64. x [length, d].
Tensor by_equations(const Mamba2Layout& layout, const TensorMap& tensors, const Tensor& x) {
  const auto value = [&](const std::string& name) {
    return tensors.contains("m." + name) ? tensors.at("m." + name).to(at::kDouble)
                                         : at::zeros({1}, at::kDouble);
  };
  const int64_t E = layout.d_inner, H = layout.heads, P = layout.head_dim, G = layout.groups,
                N = layout.d_state, W = layout.d_conv, L = x.size(0), GN = G * N;
  Tensor rows = x.to(at::kDouble).matmul(value("in_proj.weight").t()) + value("in_proj.bias");
  std::vector<Tensor> parts = rows.split_with_sizes({E, E, GN, GN, H}, 1);
  for (size_t i = 0; i < 5; ++i) parts[i] = parts[i] * layout.multipliers[i];
  const Tensor z = parts[0], x_B_C = at::cat({parts[1], parts[2], parts[3]}, 1);
  const Tensor padded = at::cat({at::zeros({W - 1, E + 2 * GN}, at::kDouble), x_B_C});
  Tensor sums = at::zeros({L, E + 2 * GN}, at::kDouble) + value("conv1d.bias");
  for (int64_t k = 0; k < W; ++k)
    sums = sums + padded.slice(0, k, k + L) * value("conv1d.weight").select(2, k).squeeze(1);
  const Tensor u = at::silu(sums);
  const Tensor before_clamp = at::log1p(at::exp(parts[4] + value("dt_bias")));
  const Tensor dt = before_clamp.clamp(layout.dt_low, layout.dt_high);
  const Tensor A = -value("A_log").exp(), D = value("D");
  Tensor y = at::zeros({L, E}, at::kDouble);
  for (int64_t h = 0; h < H; ++h) {
    const int64_t g = h / (H / G);
    Tensor S = at::zeros({P, N}, at::kDouble);
    const Tensor D_h = layout.D_by_channel ? D.slice(0, h * P, (h + 1) * P) : D[h];
    for (int64_t t = 0; t < L; ++t) {
      const Tensor u_t = u[t].slice(0, h * P, (h + 1) * P);
      const Tensor B = u[t].slice(0, E + g * N, E + (g + 1) * N);
      const Tensor C = u[t].slice(0, E + GN + g * N, E + GN + (g + 1) * N);
      S = at::exp(A[h] * dt[t][h]) * S + dt[t][h] * u_t.outer(B);
      y[t].slice(0, h * P, (h + 1) * P).copy_(S.matmul(C) + D_h * u_t);
    }
  }
  const Tensor gate = at::silu(z);
  if (!layout.norm) {
    y = y * gate;
  } else {
    if (!layout.norm->before_gate) y = y * gate;
    const Tensor groups = y.reshape({L, layout.norm->groups, -1});
    y = (groups / (groups.square().mean(-1, true) + layout.norm->eps).sqrt()).reshape({L, E}) *
        value("norm.weight");
    if (layout.norm->before_gate) y = y * gate;
  }
  return y.matmul(value("out_proj.weight").t()) + value("out_proj.bias");
}

TEST(Mamba2Mixer, ComputesItsEquationsInEveryForm) {
  for (const Mamba2Layout& layout : layouts()) {
    const TensorMap tensors = tensors_of(layout);
    const Source source(tensors);
    const auto part = make_part(*source, layout);
    const Tensor x = at::randn({2, 11, layout.d_model});
    const Tensor y = part->forward(x, nullptr, nullptr);
    for (int64_t b = 0; b < 2; ++b) {
      const Tensor expected = by_equations(layout, tensors, x[b]);
      const double error = (y[b] - expected).abs().max().item<double>();
      EXPECT_LT(error, 1e-5 * expected.abs().max().item<double>());
    }
  }
}

TEST(Mamba2Mixer, SealedItComputesTheSame) {
  for (const Mamba2Layout& layout : layouts()) {
    const Source source(tensors_of(layout));
    const auto part = make_part(*source, layout);
    const Tensor x = at::randn({1, 7, layout.d_model});
    const Tensor before = part->forward(x, nullptr, nullptr);
    part->seal();
    EXPECT_TRUE(at::equal(part->forward(x, nullptr, nullptr), before));
  }
}

// The limits of dt and the multipliers hold in every step.
TEST(Mamba2Mixer, AnySplitOfATextGivesTheSameOutputs) {
  for (const Mamba2Layout& layout : layouts()) {
    const Source source(tensors_of(layout));
    const auto part = make_part(*source, layout);
    const Tensor x = at::randn({3, 12, layout.d_model});
    PartState whole = part->initial_state(3, CacheFloats::kFloat32);
    const Tensor expected = part->forward(x, &whole, nullptr);
    EXPECT_TRUE(at::allclose(part->forward(x, nullptr, nullptr), expected, 0, 1e-5));
    for (const std::vector<int64_t>& pieces :
         {std::vector<int64_t>(12, 1), {1, 11}, {11, 1}, {5, 2, 5}, {2, 2, 8}}) {
      PartState state = part->initial_state(3, CacheFloats::kFloat16);
      int64_t begin = 0;
      for (const int64_t length : pieces) {
        const Tensor y = part->forward(x.slice(1, begin, begin + length), &state, nullptr);
        EXPECT_TRUE(at::allclose(y, expected.slice(1, begin, begin + length), 0, 1e-5)) << begin;
        begin += length;
      }
      for (size_t i = 0; i < 2; ++i)
        EXPECT_TRUE(at::allclose(state.tensors.at(i), whole.tensors.at(i), 0, 1e-5));
    }
  }
}

TEST(Mamba2Mixer, StateIsTheConvolutionsWindowAndAMatrixAHead) {
  const Mamba2Layout layout = small_layout();
  const Source source(tensors_of(layout));
  const auto part = make_part(*source, layout);
  const PartState state = part->initial_state(3, CacheFloats::kFloat16);
  ASSERT_EQ(state.tensors.size(), 2U);
  EXPECT_EQ(state.tensors[0].sizes(), at::IntArrayRef({3, 2, 44}));
  EXPECT_EQ(state.tensors[1].sizes(), at::IntArrayRef({3, 6, 5, 4}));
  int64_t floats = 0;
  for (const Tensor& tensor : state.tensors) {
    EXPECT_EQ(tensor.scalar_type(), at::kFloat);
    EXPECT_EQ(tensor.count_nonzero().item<int64_t>(), 0);
    floats += tensor[0].numel();
  }
  EXPECT_EQ(part->mixing_cost(8).state_values, floats);
  EXPECT_EQ(part->mixing_cost(8).operations, 8.0 * (5 * 24 * 5 + 2 * 3 * 44));
}

// Codes take a quarter of floats, and are what the next call reads.
TEST(Mamba2Mixer, RoundedStateIsHeldInCodes) {
  const Mamba2Layout layout = small_layout();
  const Source source(tensors_of(layout));
  const auto part = make_part(*source, layout), floats = make_part(*source, layout);
  Site& site = site_named("ssm.state", part->sites(), "test");
  site.quantizer = ActivationQuantizer::fixed(at::rand({24}) * 0.01F + 0.001F, 8);
  PartState coded = part->initial_state(2, CacheFloats::kFloat32);
  PartState held = floats->initial_state(2, CacheFloats::kFloat32);
  EXPECT_EQ(coded.tensors.at(1).scalar_type(), at::kChar);
  EXPECT_EQ(coded.tensors.at(1).sizes(), at::IntArrayRef({2, 5, 24}));
  for (int step = 0; step < 4; ++step) {
    const Tensor x = at::randn({2, 3, 10});
    const Tensor y = part->forward(x, &coded, nullptr);
    EXPECT_TRUE(at::equal(y, floats->forward(x, &held, nullptr)));
    const Tensor h = held.tensors.at(1);  // [2, 6, 5, 4]
    const Tensor rounded = site.quantizer.rounded(h.transpose(1, 2).flatten(2));
    EXPECT_FALSE(at::equal(rounded, h.transpose(1, 2).flatten(2)));
    EXPECT_TRUE(at::equal(coded.tensors.at(1) * site.quantizer.scale, rounded));
    h.copy_(rounded.unflatten(2, {6, 4}).transpose(1, 2));
  }
}

TEST(Mamba2Mixer, SitesAreInTheOrderOfTheForward) {
  class Names : public Observer {
   public:
    void observe(const Site& site, const Tensor& x) override {
      names.push_back(site.name);
      channels.push_back(x.size(-1));
    }
    std::vector<std::string> names;
    std::vector<int64_t> channels;
  } seen;
  const Source source(tensors_of(small_layout()));
  const auto part = make_part(*source, small_layout());
  part->forward(at::randn({1, 3, 10}), nullptr, &seen);
  std::vector<std::string> names;
  for (const Site* site : part->sites()) names.push_back(site->name);
  EXPECT_EQ(seen.names, names);
  EXPECT_EQ(names, std::vector<std::string>({"in_proj.input", "z", "conv.input", "ssm.dt", "ssm.x", "ssm.B",
                                             "ssm.C", "ssm.state", "ssm.output"}));
  EXPECT_EQ(seen.channels, std::vector<int64_t>({10, 24, 44, 6, 24, 10, 10, 24, 24}));
  for (const Site* site : part->sites()) {
    const auto i = static_cast<size_t>(std::ranges::find(names, site->name) - names.begin());
    EXPECT_EQ(site->channels, site->kind == "linear_input" ? 0 : seen.channels[i]) << site->name;
  }
}

TEST(Mamba2Mixer, GainOfTheGatedNormMayBeScaledAndMovedIntoOutProj) {
  for (const Mamba2Layout& layout : layouts()) {
    const Source source(tensors_of(layout));
    const auto part = make_part(*source, layout);
    if (!layout.norm) {
      EXPECT_TRUE(part->fold_edges().empty());
      continue;
    }
    const Tensor x = at::randn({2, 6, layout.d_model});
    const Tensor before = part->forward(x, nullptr, nullptr);
    const std::vector<FoldEdge> edges = part->fold_edges();
    ASSERT_EQ(edges.size(), 1U);
    EXPECT_EQ(edges[0].sites, std::vector<std::string>({"ssm.output"}));
    const Tensor gain = edges[0].producers.at(0).weight->values();
    fold_scales(edges[0], at::rand({layout.d_inner}) * 4 + 0.1);
    EXPECT_FALSE(at::equal(edges[0].producers.at(0).weight->values(), gain));
    EXPECT_TRUE(at::allclose(part->forward(x, nullptr, nullptr), before, 1e-4, 1e-5));
  }
}

TEST(Mamba2Mixer, OneRotationOfTheStatesOfBAndCChangesNothing) {
  Mamba2Layout layout = small_layout();
  layout.d_state = 8;
  const Source source(tensors_of(layout));
  const auto part = make_part(*source, layout);
  const Tensor x = at::randn({2, 6, layout.d_model});
  const Tensor before = part->forward(x, nullptr, nullptr);
  const std::vector<ProductPair> pairs = part->product_pairs();
  ASSERT_EQ(pairs.size(), 1U);
  EXPECT_EQ(pairs[0].width, 8);
  for (const std::string& name : {pairs[0].left, pairs[0].right}) {
    site_named(name, part->sites(), "test").transform.stages.push_back(make_hadamard(8));
    const Tensor y = part->forward(x, nullptr, nullptr);
    EXPECT_EQ(at::allclose(y, before, 1e-4, 1e-5), name == pairs[0].right);
  }
}

TEST(Mamba2Mixer, LayersAreWeightsWithTheirRoles) {
  Mamba2Layout layout = small_layout();
  layout.in_bias = layout.out_bias = true;
  const Source source(tensors_of(layout));
  const auto part = make_part(*source, layout);
  std::map<std::string, Role> roles;
  for (const Weight* weight : part->weights()) roles[weight->name] = weight->role;
  EXPECT_EQ(roles, (std::map<std::string, Role>{{"m.in_proj.weight", Role::kLinear},
                                                {"m.in_proj.bias", Role::kBias},
                                                {"m.conv1d.weight", Role::kConv},
                                                {"m.conv1d.bias", Role::kBias},
                                                {"m.dt_bias", Role::kBias},
                                                {"m.A_log", Role::kDecay},
                                                {"m.D", Role::kSkip},
                                                {"m.norm.weight", Role::kNorm},
                                                {"m.out_proj.weight", Role::kLinear},
                                                {"m.out_proj.bias", Role::kBias}}));
}

}  // namespace
}  // namespace ptq
