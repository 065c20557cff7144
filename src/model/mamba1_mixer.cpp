// The Mamba-1 mixer (arXiv 2312.00752), with the activation sites of Quamba (arXiv 2410.13229, figure 3).
#include "model/parts.h"
#include "model/reading.h"
#include "model/scan_state.h"
#include "ptq/ops/ops.h"

namespace ptq {
namespace {

class Mamba1Mixer : public Part {
 public:
  Mamba1Mixer(const WeightSource& source, const Mamba1Layout& layout);

  std::unique_ptr<Part> clone() const override { return std::make_unique<Mamba1Mixer>(*this); }
  Tensor forward(const Tensor& x, PartState* state, Observer* observer) const override;
  void seal() override { A_ = decay(); }
  PartState initial_state(int64_t batch, CacheFloats floats) const override;
  std::vector<PartInput> inputs() override { return {{"in_proj.input", {&in_proj_}}}; }
  std::vector<Site*> sites() override;
  std::vector<Linear*> linears() override { return {&in_proj_, &x_proj_, &dt_proj_, &out_proj_}; }
  std::vector<Weight*> weights() override;
  std::vector<FoldEdge> fold_edges() override;
  MixingCost mixing_cost(int64_t length) const override;

 private:
  // A is rounded, where it is, in the log domain.
  Tensor decay() const { return A_log_.values().exp().neg(); }
  Tensor normed(const Tensor& x, const std::optional<Norm>& norm) const;

  Mamba1Layout layout_;

  Linear in_proj_;                       // [2E, d], rows x then z
  Weight conv_weight_;                   // [E, 1, W]
  std::optional<Weight> conv_bias_;      // [E]
  Linear x_proj_;                        // [R + 2N, E], rows dt, B, C
  Linear dt_proj_;                       // [E, R], with bias
  std::optional<Norm> dt_norm_;          // [R]
  std::optional<Norm> B_norm_, C_norm_;  // [N]
  Weight A_log_;                         // [E, N]
  Tensor A_;                             // -exp(A_log); undefined until the part is sealed
  Weight D_;                             // [E]
  Linear out_proj_;                      // [d, E]

  Site in_proj_input_, conv_input_, z_, ssm_x_, dt_proj_input_, ssm_dt_, ssm_B_, ssm_C_, ssm_state_,
      ssm_output_;
};

Mamba1Mixer::Mamba1Mixer(const WeightSource& source, const Mamba1Layout& layout) : layout_(layout) {
  const int64_t d = layout.d_model, E = layout.d_inner, N = layout.d_state, R = layout.dt_rank;
  const std::string& prefix = layout.prefix;
  in_proj_ = read_linear(source, prefix + ".in_proj", "in_proj.input", 2 * E, d, layout.linear_bias);
  conv_weight_ = source.read(prefix + ".conv1d.weight", Role::kConv, {E, 1, layout.d_conv});
  if (layout.conv_bias) conv_bias_ = source.read(prefix + ".conv1d.bias", Role::kBias, {E});
  x_proj_ = read_linear(source, prefix + ".x_proj", "ssm.x", R + 2 * N, E, /*has_bias=*/false);
  if (layout.norms && layout.norms->gains) {
    const auto norm = [&](const char* name, int64_t channels) {
      return read_norm(source, {prefix + "." + name + ".weight", layout.norms->eps}, channels);
    };
    dt_norm_ = norm("dt_layernorm", R);
    B_norm_ = norm("b_layernorm", N);
    C_norm_ = norm("c_layernorm", N);
  }
  dt_proj_ = read_linear(source, prefix + ".dt_proj", "dt_proj.input", E, R, /*has_bias=*/true);
  dt_proj_.min_bits = 8;  // tiny (its inputs are no multiple of a group) and its error is exponentiated
  A_log_ = source.read(prefix + ".A_log", Role::kDecay, {E, N});
  D_ = source.read(prefix + ".D", Role::kSkip, {E});
  out_proj_ = read_linear(source, prefix + ".out_proj", "ssm.output", d, E, layout.linear_bias);
  out_proj_.fused_elsewhere = true;  // mamba_inner_fn of mamba_ssm

  in_proj_input_ = make_site("in_proj.input", "linear_input");
  conv_input_ = make_site("conv.input", "internal");
  z_ = make_site("z", "internal");
  ssm_x_ = make_site("ssm.x", "linear_input");
  ssm_x_.shared = true;  // the scan reads it too
  dt_proj_input_ = make_site("dt_proj.input", "linear_input");
  ssm_dt_ = make_site("ssm.dt", "internal");
  ssm_B_ = make_site("ssm.B", "internal");
  ssm_C_ = make_site("ssm.C", "internal");
  ssm_state_ = make_state_site(E);
  ssm_output_ = make_site("ssm.output", "linear_input");
  conv_input_.channels = z_.channels = ssm_dt_.channels = E;
  ssm_B_.channels = ssm_C_.channels = N;
}

Tensor Mamba1Mixer::normed(const Tensor& x, const std::optional<Norm>& norm) const {
  if (norm) return (*norm)(x);
  if (!layout_.norms) return x;
  return ops::rms_norm(x, at::ones({x.size(-1)}, x.options()), layout_.norms->eps);
}

// input [batch, length, d]
Tensor Mamba1Mixer::forward(const Tensor& input, PartState* state, Observer* observer) const {
  const int64_t E = layout_.d_inner, N = layout_.d_state, R = layout_.dt_rank;
  const Tensor window = state != nullptr ? state->tensors.at(0) : Tensor();  // [batch, W - 1, E]
  Tensor* const stored = state != nullptr ? &state->tensors.at(1) : nullptr;
  const Tensor h = scan_state(ssm_state_, stored != nullptr ? *stored : Tensor(), {input.size(0), E, N},
                              A_log_.device(), observer);

  const Tensor xz = in_proj_(in_proj_input_(input, observer));
  const Tensor x = conv_input_.rounded(xz.slice(-1, 0, E), observer);
  const Tensor z = z_.rounded(xz.slice(-1, E), observer);

  const Tensor conv_weight = conv_weight_.values().squeeze(1);
  const Tensor conv_bias = conv_bias_ ? conv_bias_->values() : Tensor();
  const Tensor convolved = ops::causal_conv1d_silu(x, conv_weight, conv_bias, window);
  const Activation u = ssm_x_(convolved, observer);

  const Tensor dt_B_C = x_proj_(u);  // [batch, length, R + 2N]
  const Tensor low_dt = normed(dt_B_C.slice(-1, 0, R), dt_norm_);
  const Tensor dt = ssm_dt_.rounded(dt_proj_(dt_proj_input_(low_dt, observer)), observer);
  const Tensor B = ssm_B_.rounded(normed(dt_B_C.slice(-1, R, R + N), B_norm_), observer);
  const Tensor C = ssm_C_.rounded(normed(dt_B_C.slice(-1, R + N), C_norm_), observer);
  const Tensor A = A_.defined() ? A_ : decay();
  const Tensor scanned = ssm_x_.rounds_for_linears_alone ? convolved : u.dequantize();
  const Tensor y = ops::selective_scan(scanned, dt, A, B, C, D_.values(), z, h);
  keep_scan_state(ssm_state_, h, stored, observer);
  return out_proj_(ssm_output_(y, observer));
}

// The inputs of the convolution that the next token reaches, and h.
PartState Mamba1Mixer::initial_state(int64_t batch, CacheFloats) const {
  const at::TensorOptions options = A_log_.device();
  return {.tensors = {at::zeros({batch, layout_.d_conv - 1, layout_.d_inner}, options),
                      first_scan_state(ssm_state_, {batch, layout_.d_inner, layout_.d_state}, options)}};
}

std::vector<Site*> Mamba1Mixer::sites() {
  return {&in_proj_input_, &conv_input_, &z_,     &ssm_x_,     &dt_proj_input_,
          &ssm_dt_,        &ssm_B_,      &ssm_C_, &ssm_state_, &ssm_output_};
}

std::vector<Weight*> Mamba1Mixer::weights() {
  std::vector<Weight*> all = {&in_proj_.weight, &conv_weight_, &x_proj_.weight,  &dt_proj_.weight,
                              &A_log_,          &D_,           &out_proj_.weight};
  if (conv_bias_) all.push_back(&*conv_bias_);
  for (std::optional<Norm>* norm : {&dt_norm_, &B_norm_, &C_norm_}) {
    if (*norm) all.push_back(&(*norm)->gain);
  }
  for (Linear* linear : linears()) {
    if (linear->bias) all.push_back(&*linear->bias);
  }
  return all;
}

// The conv, silu and the scan are not linear in their channels' scale, so dt is all there is besides the
// norm.
std::vector<FoldEdge> Mamba1Mixer::fold_edges() {
  if (!layout_.norms) return {edge_between("dt_proj.input", x_proj_, dt_proj_)};
  if (!dt_norm_) return {};
  return {{{"dt_proj.input"}, dt_norm_->producers(), {&dt_proj_}}};
}

// The scan: exp(dt A), dt B u, the update of h and its product with C, of every channel and state; and the
// conv.
MixingCost Mamba1Mixer::mixing_cost(int64_t length) const {
  const int64_t E = layout_.d_inner, N = layout_.d_state, W = layout_.d_conv;
  return {static_cast<double>(length * E) * static_cast<double>(9 * N + 2 * W), E * (N + W - 1)};
}

}  // namespace

std::unique_ptr<Part> make_part(const WeightSource& source, const Mamba1Layout& layout) {
  return std::make_unique<Mamba1Mixer>(source, layout);
}

}  // namespace ptq
