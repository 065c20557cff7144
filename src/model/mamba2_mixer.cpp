// The Mamba-2 mixer (arXiv 2405.21060), with the activation sites that Quamba (arXiv 2410.13229) gives to
// Mamba-1 as far as they are here: x, B and C all come from the convolution, and no linear but out_proj reads
// what is inside.
#include <algorithm>

#include "model/parts.h"
#include "model/reading.h"
#include "model/scan_state.h"
#include "ptq/ops/ops.h"

namespace ptq {
namespace {

class Mamba2Mixer : public Part {
 public:
  Mamba2Mixer(const WeightSource& source, const Mamba2Layout& layout);

  std::unique_ptr<Part> clone() const override { return std::make_unique<Mamba2Mixer>(*this); }
  Tensor forward(const Tensor& x, PartState* state, Observer* observer) const override;
  void seal() override { scan_ = scan_of_heads(); }
  PartState initial_state(int64_t batch, CacheFloats floats) const override;
  std::vector<PartInput> inputs() override { return {{"in_proj.input", {&in_proj_}}}; }
  std::vector<Site*> sites() override;
  std::vector<Linear*> linears() override { return {&in_proj_, &out_proj_}; }
  std::vector<Weight*> weights() override;
  std::vector<FoldEdge> fold_edges() override;
  std::vector<ProductPair> product_pairs() override { return {{"ssm.B", "ssm.C", layout_.d_state}}; }
  MixingCost mixing_cost(int64_t length) const override;

 private:
  int64_t states() const { return layout_.groups * layout_.d_state; }       // GN, of B and of C
  int64_t conv_channels() const { return layout_.d_inner + 2 * states(); }  // x, B, C
  ops::SsdHeads scan_of_heads() const;
  Tensor gated(Tensor y, const Tensor& z) const;

  Mamba2Layout layout_;

  Linear in_proj_;                     // [2E + 2GN + H, d], rows z, x, B, C, dt
  Tensor multipliers_;                 // [2E + 2GN + H], undefined if all are 1
  Weight conv_weight_;                 // [E + 2GN, 1, W]
  std::optional<Weight> conv_bias_;    // [E + 2GN]
  Weight dt_bias_;                     // [H]
  Weight A_log_;                       // [H]
  Weight D_;                           // [H] or [E]
  std::optional<ops::SsdHeads> scan_;  // once the part is sealed
  Weight norm_;                        // [E], if the layout has one
  Linear out_proj_;                    // [d, E]

  Site in_proj_input_, z_, conv_input_, ssm_dt_, ssm_x_, ssm_B_, ssm_C_, ssm_state_, ssm_output_;
};

// One for each row of in_proj; undefined if none changes anything.
Tensor row_multipliers(const Mamba2Layout& layout, at::Device device) {
  const auto is_one = [](double multiplier) { return multiplier == 1; };
  if (std::all_of(layout.multipliers.begin(), layout.multipliers.end(), is_one)) return {};
  const int64_t E = layout.d_inner, GN = layout.groups * layout.d_state;
  const int64_t rows[] = {E, E, GN, GN, layout.heads};
  std::vector<Tensor> parts;
  parts.reserve(layout.multipliers.size());
  for (size_t i = 0; i < layout.multipliers.size(); ++i)
    parts.push_back(at::full({rows[i]}, layout.multipliers[i], at::kFloat));
  return at::cat(parts).to(device);
}

Mamba2Mixer::Mamba2Mixer(const WeightSource& source, const Mamba2Layout& layout)
    : layout_(layout), multipliers_(row_multipliers(layout, source.device())) {
  const int64_t d = layout.d_model, E = layout.d_inner, H = layout.heads;
  const std::string& prefix = layout.prefix;
  in_proj_ =
      read_linear(source, prefix + ".in_proj", "in_proj.input", E + conv_channels() + H, d, layout.in_bias);
  conv_weight_ = source.read(prefix + ".conv1d.weight", Role::kConv, {conv_channels(), 1, layout.d_conv});
  in_proj_.weight.row_parts = {E, E, states(), states(), H};
  conv_weight_.row_parts = {E, states(), states()};
  if (layout.conv_bias) conv_bias_ = source.read(prefix + ".conv1d.bias", Role::kBias, {conv_channels()});
  dt_bias_ = source.read(prefix + ".dt_bias", Role::kBias, {H});
  A_log_ = source.read(prefix + ".A_log", Role::kDecay, {H});
  D_ = source.read(prefix + ".D", Role::kSkip, {layout.D_by_channel ? E : H});
  if (layout.norm) norm_ = source.read(prefix + ".norm.weight", Role::kNorm, {E});
  out_proj_ = read_linear(source, prefix + ".out_proj", "ssm.output", d, E, layout.out_bias);
  out_proj_.fused_elsewhere = true;  // mamba_split_conv1d_scan_combined of mamba_ssm

  in_proj_input_ = make_site("in_proj.input", "linear_input");
  z_ = make_site("z", "internal");
  conv_input_ = make_site("conv.input", "internal");
  ssm_dt_ = make_site("ssm.dt", "internal");
  ssm_x_ = make_site("ssm.x", "internal");
  ssm_B_ = make_site("ssm.B", "internal");
  ssm_C_ = make_site("ssm.C", "internal");
  ssm_B_.head_dim = ssm_C_.head_dim = layout.d_state;
  ssm_state_ = make_state_site(E);
  ssm_output_ = make_site("ssm.output", "linear_input");
  z_.channels = ssm_x_.channels = E;
  conv_input_.channels = conv_channels();
  ssm_dt_.channels = H;
  ssm_B_.channels = ssm_C_.channels = states();
  conv_input_.parts = {E, states(), states()};
  ssm_B_.parts = ssm_C_.parts = std::vector<int64_t>(static_cast<size_t>(layout.groups), layout.d_state);
  ssm_x_.heads = {H, layout.groups};
}

// A is rounded, where it is, in the log domain.
ops::SsdHeads Mamba2Mixer::scan_of_heads() const {
  const Tensor D = D_.values();
  return {.A = A_log_.values().exp().neg(),
          .dt_bias = dt_bias_.values(),
          .D = layout_.D_by_channel ? D : D.repeat_interleave(layout_.head_dim),
          .delta_low = layout_.dt_low,
          .delta_high = layout_.dt_high,
          .groups = layout_.groups};
}

// y and z [batch, length, E]; y may be written into.
Tensor Mamba2Mixer::gated(Tensor y, const Tensor& z) const {
  const Tensor gate = at::silu(z);
  const std::optional<Mamba2Layout::Gated>& norm = layout_.norm;
  if (!norm) return y.mul_(gate);
  if (!norm->before_gate) y.mul_(gate);
  y = ops::rms_norm(y, norm_.values(), norm->eps, norm->groups);
  return norm->before_gate ? y.mul_(gate) : y;
}

// input [batch, length, d]
Tensor Mamba2Mixer::forward(const Tensor& input, PartState* state, Observer* observer) const {
  const int64_t E = layout_.d_inner, GN = states();
  const Tensor window = state != nullptr ? state->tensors.at(0) : Tensor();  // [batch, W - 1, E + 2GN]
  Tensor* const stored = state != nullptr ? &state->tensors.at(1) : nullptr;
  const int64_t heads[] = {input.size(0), layout_.heads, layout_.d_state, layout_.head_dim};
  const Tensor h =
      scan_state(ssm_state_, stored != nullptr ? *stored : Tensor(), heads, A_log_.device(), observer);

  Tensor projected = in_proj_(in_proj_input_(input, observer));
  if (multipliers_.defined()) projected.mul_(multipliers_);
  const Tensor z = z_.rounded(projected.slice(-1, 0, E), observer);
  const Tensor x_B_C = conv_input_.rounded(projected.slice(-1, E, E + conv_channels()), observer);
  const Tensor dt = ssm_dt_.rounded(projected.slice(-1, E + conv_channels()), observer);

  const Tensor conv_weight = conv_weight_.values().squeeze(1);
  const Tensor conv_bias = conv_bias_ ? conv_bias_->values() : Tensor();
  const Tensor convolved = ops::causal_conv1d_silu(x_B_C, conv_weight, conv_bias, window);
  const Tensor x = ssm_x_.rounded(convolved.slice(-1, 0, E), observer);
  const Tensor B = ssm_B_.rounded(convolved.slice(-1, E, E + GN), observer);
  const Tensor C = ssm_C_.rounded(convolved.slice(-1, E + GN), observer);
  const Tensor y = ops::ssd_scan(x, dt, B, C, scan_ ? *scan_ : scan_of_heads(), h);
  keep_scan_state(ssm_state_, h, stored, observer);
  return out_proj_(ssm_output_(gated(y, z), observer));
}

// The inputs of the convolution that the next token reaches, and h.
PartState Mamba2Mixer::initial_state(int64_t batch, CacheFloats) const {
  const at::TensorOptions options = A_log_.device();
  return {.tensors = {at::zeros({batch, layout_.d_conv - 1, conv_channels()}, options),
                      first_scan_state(ssm_state_, {batch, layout_.heads, layout_.d_state, layout_.head_dim},
                                       options)}};
}

std::vector<Site*> Mamba2Mixer::sites() {
  return {&in_proj_input_, &z_, &conv_input_, &ssm_dt_, &ssm_x_, &ssm_B_, &ssm_C_, &ssm_state_, &ssm_output_};
}

std::vector<Weight*> Mamba2Mixer::weights() {
  std::vector<Weight*> all = {&conv_weight_, &dt_bias_, &A_log_, &D_};
  if (conv_bias_) all.push_back(&*conv_bias_);
  if (layout_.norm) all.push_back(&norm_);
  for (Weight* weight : weights_of(linears())) all.push_back(weight);
  return all;
}

// The gated norm, whether the gate comes before or after: between its gain and out_proj there are products
// alone. The conv, silu and the scan are not linear in their channels' scale.
std::vector<FoldEdge> Mamba2Mixer::fold_edges() {
  if (!layout_.norm) return {};
  return {{{"ssm.output"}, {{&norm_}}, {&out_proj_}}};
}

// The scan: dt B u, the update of h and its product with C, of every channel and state; and the conv.
MixingCost Mamba2Mixer::mixing_cost(int64_t length) const {
  const int64_t E = layout_.d_inner, N = layout_.d_state, W = layout_.d_conv;
  return {static_cast<double>(length) * static_cast<double>(5 * E * N + 2 * W * conv_channels()),
          E * N + (W - 1) * conv_channels()};
}

}  // namespace

std::unique_ptr<Part> make_part(const WeightSource& source, const Mamba2Layout& layout) {
  return std::make_unique<Mamba2Mixer>(source, layout);
}

}  // namespace ptq
