#include "model/dense_layers.h"

#include "model/nonlinearity.h"
#include "model/reading.h"

namespace ptq {

using Form = DenseLayout::Form;

DenseLayers::DenseLayers(const WeightSource& source, const DenseLayout& layout, const std::string& input,
                         const std::string& inner)
    : layout_(layout) {
  const std::string prefix = layout.prefix + ".";
  const int64_t d = layout.d_model, F = layout.d_inner;
  if (layout.form == Form::kGated)
    gate_ = read_linear(source, prefix + layout.gate, input, F, d, layout.bias);
  const int64_t rows = layout.form == Form::kJoined ? 2 * F : F;
  up_ = read_linear(source, prefix + layout.up, input, rows, d, layout.bias);
  down_ = read_linear(source, prefix + layout.down, inner, d, F, layout.bias);
}

Tensor DenseLayers::inner(const Activation& x) const {
  const int64_t F = layout_.d_inner;
  if (gate_) {
    Tensor y = (*gate_)(x);
    return apply(layout_.f, y, layout_.gate_scale).mul_(up_(x));
  }
  if (layout_.form == Form::kJoined) {
    const Tensor both = up_(x);
    Tensor y = both.slice(-1, 0, F).contiguous();
    return apply(layout_.f, y, layout_.gate_scale).mul_(both.slice(-1, F));
  }
  Tensor y = up_(x);
  return apply(layout_.f, y, layout_.gate_scale);
}

std::vector<Linear*> DenseLayers::readers() {
  if (gate_) return {&up_, &*gate_};
  return {&up_};
}

std::vector<Linear*> DenseLayers::linears() {
  if (gate_) return {&*gate_, &up_, &down_};
  return {&up_, &down_};
}

std::optional<FoldEdge> DenseLayers::inner_edge() {
  FoldEdge edge = edge_between(down_.site, up_, down_);
  for (FoldEdge::Rows& producer : edge.producers) {
    if (layout_.form == Form::kJoined) producer.first = layout_.d_inner;
    if (layout_.form != Form::kPlain) continue;
    const std::optional<double> power = scale_power(layout_.f);
    if (!power) return {};
    producer.power = *power;
  }
  return edge;
}

}  // namespace ptq
