// A mixture of experts: each token passes the feed-forwards that a router chooses for it.
//
// Calibration. Every expert reads the same site, so its second moment is that over all tokens. What an
// expert's down reads is known for the tokens routed to it alone, and an expert may see few: an observer is
// shown the inner values of some further tokens too, drawn evenly from all. On synthetic mixtures a moment
// over routed tokens alone costs GPTQ five times the error where there are eight of them, one of both 1.2
// times.
#include "model/dense_layers.h"
#include "model/parts.h"
#include "model/reading.h"
#include "model/router.h"

namespace ptq {
namespace {

class MoeFeedForward : public Part {
 public:
  MoeFeedForward(const WeightSource& source, const MoeLayout& layout);

  std::unique_ptr<Part> clone() const override { return std::make_unique<MoeFeedForward>(*this); }
  Tensor forward(const Tensor& x, PartState*, Observer* observer) const override;
  PartState initial_state(int64_t, CacheFloats) const override { return {}; }

  std::vector<PartInput> inputs() override;
  std::vector<Site*> sites() override;
  std::vector<Linear*> linears() override;
  std::vector<Weight*> weights() override;
  std::vector<FoldEdge> fold_edges() override;
  MixingCost mixing_cost(int64_t) const override { return {}; }
  Tensor chosen_experts(const Tensor& router_input) const override;

 private:
  std::vector<Routed> routed(const Tensor& router_input) const;
  Tensor of_expert(size_t e, const Activation& x, const Tensor& tokens, Observer* observer) const;
  std::vector<Linear*> readers();
  FoldEdge latent_edge();

  MoeLayout layout_;
  Linear router_;                                 // [X, d]
  std::optional<Weight> choice_bias_;             // [X]
  std::optional<Linear> latent_in_, latent_out_;  // [e, d], [d, e], where experts are e wide
  std::vector<DenseLayers> experts_;
  Site router_input_, latent_input_, experts_input_, latent_output_;
  std::vector<Site> down_inputs_;  // one an expert
};

MoeFeedForward::MoeFeedForward(const WeightSource& source, const MoeLayout& layout)
    : layout_(layout),
      router_input_(make_site("router.input", kRouterInput)),
      latent_input_(make_site("latent.input", "linear_input")),
      experts_input_(make_site("experts.input", "linear_input")),
      latent_output_(make_site("latent.output", "linear_input")) {
  const auto count = static_cast<int64_t>(layout.experts.size());
  router_ = read_linear(source, layout.router.name, "router.input", count, layout.d_model, false);
  router_.min_bits = kNeverRounded;
  if (!layout.router.choice_bias.empty())
    choice_bias_ = source.read(layout.router.choice_bias, Role::kBias, {count});
  if (!layout.latent_in.empty()) {
    const int64_t width = layout.experts.front().d_model;
    latent_in_ = read_linear(source, layout.latent_in, "latent.input", width, layout.d_model, false);
    latent_out_ = read_linear(source, layout.latent_out, "latent.output", layout.d_model, width, false);
  }
  for (size_t e = 0; e < layout.experts.size(); ++e) {
    const std::string site = "experts." + std::to_string(e) + ".down.input";
    experts_.emplace_back(source, layout.experts[e], "experts.input", site);
    for (Linear* linear : experts_.back().linears())
      linear->token_share = static_cast<double>(layout.router.chosen) / static_cast<double>(count);
    down_inputs_.push_back(make_site(site, "linear_input"));
    down_inputs_.back().routed = true;
  }
}

// What the expert makes of the tokens `tokens` [n] of x, [n, width].
Tensor MoeFeedForward::of_expert(size_t e, const Activation& x, const Tensor& tokens,
                                 Observer* observer) const {
  const DenseLayers& expert = experts_[e];
  const Site& site = down_inputs_[e];
  if (observer == nullptr) return expert.outer(site(expert.inner(x.tokens(tokens)), nullptr)).squeeze(0);
  const int64_t all = x.sizes()[0] * x.sizes()[1], n = tokens.size(0);
  const Tensor drawn = at::arange(0, all, kDrawnOneIn, tokens.options());
  const Activation shown = site(expert.inner(x.tokens(at::cat({tokens, drawn}))), observer);
  return expert.outer(shown.tokens(at::arange(n, tokens.options()))).squeeze(0);
}

std::vector<Routed> MoeFeedForward::routed(const Tensor& router_input) const {
  const Tensor logits = router_({.values = router_input}).flatten(0, -2);
  return route(layout_.router, logits, choice_bias_ ? choice_bias_->values() : Tensor());
}

Tensor MoeFeedForward::chosen_experts(const Tensor& router_input) const {
  const int64_t tokens = router_input.numel() / router_input.size(-1);
  const Tensor chosen = at::zeros({tokens, static_cast<int64_t>(experts_.size())}, at::kBool);
  const std::vector<Routed> experts = routed(router_input);
  for (size_t e = 0; e < experts.size(); ++e)
    chosen.select(1, static_cast<int64_t>(e)).index_fill_(0, at::tensor(experts[e].tokens, at::kLong), true);
  return chosen;
}

Tensor MoeFeedForward::forward(const Tensor& x, PartState*, Observer* observer) const {
  const Activation router_input = router_input_(x, observer);  // floats: it is never rounded
  const std::vector<Routed> routed = this->routed(router_input.values);
  const Tensor entering = latent_in_ ? (*latent_in_)(latent_input_(x, observer)) : x;
  const Activation input = experts_input_(entering, observer);
  Tensor sum = at::zeros({x.size(0) * x.size(1), entering.size(-1)}, x.options());
  for (size_t e = 0; e < experts_.size(); ++e) {
    if (routed[e].tokens.empty() && observer == nullptr) continue;
    const Tensor tokens = at::tensor(routed[e].tokens, at::kLong).to(x.device());
    const Tensor weights = at::tensor(routed[e].weights, at::kFloat).to(x.device());
    const Tensor y = of_expert(e, input, tokens, observer);
    sum.index_add_(0, tokens, y * weights.unsqueeze(1));
  }
  sum = sum.reshape(entering.sizes());
  return latent_out_ ? (*latent_out_)(latent_output_(sum, observer)) : sum;
}

// Of the experts' input.
std::vector<Linear*> MoeFeedForward::readers() {
  std::vector<Linear*> all;
  for (DenseLayers& expert : experts_) {
    for (Linear* linear : expert.readers()) all.push_back(linear);
  }
  return all;
}

std::vector<PartInput> MoeFeedForward::inputs() {
  std::vector<PartInput> all;
  if (latent_in_)
    all.push_back({"latent.input", {&*latent_in_}});
  else
    all.push_back({"experts.input", readers()});
  all.push_back({"router.input", {&router_}});
  return all;
}

std::vector<Site*> MoeFeedForward::sites() {
  std::vector<Site*> all = {&router_input_};
  if (latent_in_) all.push_back(&latent_input_);
  all.push_back(&experts_input_);
  for (Site& site : down_inputs_) all.push_back(&site);
  if (latent_out_) all.push_back(&latent_output_);
  return all;
}

std::vector<Linear*> MoeFeedForward::linears() {
  std::vector<Linear*> all = {&router_};
  if (latent_in_) all.push_back(&*latent_in_);
  for (DenseLayers& expert : experts_) {
    for (Linear* linear : expert.linears()) all.push_back(linear);
  }
  if (latent_out_) all.push_back(&*latent_out_);
  return all;
}

std::vector<Weight*> MoeFeedForward::weights() {
  std::vector<Weight*> all = weights_of(linears());
  if (choice_bias_) all.push_back(&*choice_bias_);
  return all;
}

// What the experts give is summed with weights that do not depend on it.
FoldEdge MoeFeedForward::latent_edge() {
  FoldEdge edge{{"latent.output"}, {}, {&*latent_out_}};
  for (DenseLayers& expert : experts_) {
    edge.producers.push_back({&expert.down().weight});
    if (expert.down().bias) edge.producers.push_back({&*expert.down().bias});
  }
  return edge;
}

std::vector<FoldEdge> MoeFeedForward::fold_edges() {
  std::vector<FoldEdge> all;
  if (latent_in_) all.push_back({{"experts.input"}, {{&latent_in_->weight}}, readers()});
  for (DenseLayers& expert : experts_) {
    if (const std::optional<FoldEdge> edge = expert.inner_edge()) all.push_back(*edge);
  }
  if (latent_out_) all.push_back(latent_edge());
  return all;
}

}  // namespace

std::unique_ptr<Part> make_part(const WeightSource& source, const MoeLayout& layout) {
  return std::make_unique<MoeFeedForward>(source, layout);
}

}  // namespace ptq
