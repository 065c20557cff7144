// The gated feed-forward of Llama: down(silu(gate(x)) * up(x)) (arXiv 2002.05202, SwiGLU).
#include "model/parts.h"
#include "model/reading.h"

namespace ptq {
namespace {

class GatedFeedForward : public Part {
 public:
  GatedFeedForward(const WeightSource& source, const GatedLayout& layout)
      : gate_(read_linear(source, layout.prefix + ".gate_proj", "gate_up.input", layout.d_inner,
                          layout.d_model, layout.bias)),
        up_(read_linear(source, layout.prefix + ".up_proj", "gate_up.input", layout.d_inner, layout.d_model,
                        layout.bias)),
        down_(read_linear(source, layout.prefix + ".down_proj", "down.input", layout.d_model, layout.d_inner,
                          layout.bias)),
        gate_up_input_(make_site("gate_up.input", "linear_input")),
        down_input_(make_site("down.input", "linear_input")) {}

  std::unique_ptr<Part> clone() const override { return std::make_unique<GatedFeedForward>(*this); }

  Tensor forward(const Tensor& x, PartState*, Observer* observer) const override {
    const Activation input = gate_up_input_(x, observer);
    Tensor gate = gate_(input);
    at::silu_(gate).mul_(up_(input));
    return down_(down_input_(gate, observer));
  }
  PartState initial_state(int64_t, CacheFloats) const override { return {}; }

  std::vector<PartInput> inputs() override { return {{"gate_up.input", {&up_, &gate_}}}; }
  std::vector<Site*> sites() override { return {&gate_up_input_, &down_input_}; }
  std::vector<Linear*> linears() override { return {&gate_, &up_, &down_}; }
  std::vector<Weight*> weights() override { return weights_of(linears()); }
  // Of up, which is multiplied by the gate; silu does not let a scale of the gate pass.
  std::vector<FoldEdge> fold_edges() override { return {edge_between("down.input", up_, down_)}; }
  MixingCost mixing_cost(int64_t) const override { return {}; }

 private:
  Linear gate_, up_;  // [F, d]
  Linear down_;       // [d, F]
  Site gate_up_input_, down_input_;
};

}  // namespace

std::unique_ptr<Part> make_part(const WeightSource& source, const GatedLayout& layout) {
  return std::make_unique<GatedFeedForward>(source, layout);
}

}  // namespace ptq
