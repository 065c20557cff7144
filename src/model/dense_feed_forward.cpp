// A feed-forward that every token passes.
#include "model/dense_layers.h"
#include "model/parts.h"
#include "model/reading.h"

namespace ptq {
namespace {

class DenseFeedForward : public Part {
 public:
  DenseFeedForward(const WeightSource& source, const DenseLayout& layout);

  std::unique_ptr<Part> clone() const override { return std::make_unique<DenseFeedForward>(*this); }
  Tensor forward(const Tensor& x, PartState*, Observer* observer) const override;
  PartState initial_state(int64_t, CacheFloats) const override { return {}; }

  std::vector<PartInput> inputs() override;
  std::vector<Site*> sites() override;
  std::vector<Linear*> linears() override;
  std::vector<Weight*> weights() override { return weights_of(linears()); }
  std::vector<FoldEdge> fold_edges() override;
  MixingCost mixing_cost(int64_t) const override { return {}; }

 private:
  DenseLayers layers_;
  std::optional<Linear> output_gate_;  // [1, d]
  Site gate_up_input_, output_gate_input_, down_input_;
};

DenseFeedForward::DenseFeedForward(const WeightSource& source, const DenseLayout& layout)
    : layers_(source, layout, "gate_up.input", "down.input"),
      gate_up_input_(make_site("gate_up.input", "linear_input")),
      output_gate_input_(make_site("output_gate.input", kRouterInput)),
      down_input_(make_site("down.input", "linear_input")) {
  if (layout.output_gate.empty()) return;
  output_gate_ = read_linear(source, layout.output_gate, "output_gate.input", 1, layout.d_model, false);
  output_gate_->min_bits = kNeverRounded;
}

Tensor DenseFeedForward::forward(const Tensor& x, PartState*, Observer* observer) const {
  const Tensor inner = layers_.inner(gate_up_input_(x, observer));
  Tensor y = layers_.outer(down_input_(inner, observer));
  if (output_gate_) y.mul_((*output_gate_)(output_gate_input_(x, observer)).sigmoid_());
  return y;
}

std::vector<PartInput> DenseFeedForward::inputs() {
  std::vector<PartInput> all = {{"gate_up.input", layers_.readers()}};
  if (output_gate_) all.push_back({"output_gate.input", {&*output_gate_}});
  return all;
}

std::vector<Site*> DenseFeedForward::sites() {
  if (output_gate_) return {&gate_up_input_, &down_input_, &output_gate_input_};
  return {&gate_up_input_, &down_input_};
}

std::vector<Linear*> DenseFeedForward::linears() {
  std::vector<Linear*> all = layers_.linears();
  if (output_gate_) all.push_back(&*output_gate_);
  return all;
}

std::vector<FoldEdge> DenseFeedForward::fold_edges() {
  const std::optional<FoldEdge> edge = layers_.inner_edge();
  if (!edge) return {};
  return {*edge};
}

}  // namespace

std::unique_ptr<Part> make_part(const WeightSource& source, const DenseLayout& layout) {
  return std::make_unique<DenseFeedForward>(source, layout);
}

}  // namespace ptq
