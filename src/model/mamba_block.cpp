// The Mamba-1 block (arXiv 2312.00752), with the activation sites of Quamba (arXiv 2410.13229, figure 3).
#include "model/mamba_block.h"

#include "model/reading.h"
#include "ptq/ops/ops.h"

namespace ptq {
MambaBlock::MambaBlock(const WeightSource& source, const MambaConfig& config, int64_t index)
    : prefix_("backbone.layers." + std::to_string(index) + ".mixer"), config_(config) {
  const int64_t d = config.d_model, E = config.d_inner, N = config.d_state, R = config.dt_rank;
  norm_ = source.read("backbone.layers." + std::to_string(index) + ".norm.weight", Role::kNorm, {d});
  in_proj_ = read_linear(source, prefix_ + ".in_proj", "in_proj.input", 2 * E, d, config.linear_bias);
  conv_weight_ = source.read(prefix_ + ".conv1d.weight", Role::kConv, {E, 1, config.d_conv});
  if (config.conv_bias) conv_bias_ = source.read(prefix_ + ".conv1d.bias", Role::kBias, {E});
  x_proj_ = read_linear(source, prefix_ + ".x_proj", "ssm.x", R + 2 * N, E, /*has_bias=*/false);
  dt_proj_ = read_linear(source, prefix_ + ".dt_proj", "dt_proj.input", E, R, /*has_bias=*/true);
  dt_proj_.min_bits = 8;  // tiny (its inputs are no multiple of a group) and its error is exponentiated
  A_log_ = source.read(prefix_ + ".A_log", Role::kDecay, {E, N});
  D_ = source.read(prefix_ + ".D", Role::kSkip, {E});
  out_proj_ = read_linear(source, prefix_ + ".out_proj", "ssm.output", d, E, config.linear_bias);
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
  ssm_output_ = make_site("ssm.output", "linear_input");
}

// hidden [batch, length, d]
Tensor MambaBlock::forward(const Tensor& hidden, BlockState* state) const {
  const int64_t E = config_.d_inner, N = config_.d_state, R = config_.dt_rank;
  const Tensor window = state != nullptr ? state->tensors.at(0) : Tensor();  // [batch, W - 1, E]
  const Tensor h = state != nullptr ? state->tensors.at(1) : Tensor();       // [batch, E, N]

  const Tensor xz = in_proj_(in_proj_input_(ops::rms_norm(hidden, norm_.value, config_.norm_eps)));
  const Tensor x = conv_input_(xz.slice(-1, 0, E)).dequantize();
  const Tensor z = z_(xz.slice(-1, E)).dequantize();

  const Tensor conv_bias = conv_bias_ ? conv_bias_->value : Tensor();
  const Activation u = ssm_x_(ops::causal_conv1d_silu(x, conv_weight_.value.squeeze(1), conv_bias, window));

  const Tensor dt_B_C = x_proj_(u);  // [batch, length, R + 2N]
  const Tensor dt = ssm_dt_(dt_proj_(dt_proj_input_(dt_B_C.slice(-1, 0, R)))).dequantize();
  const Tensor B = ssm_B_(dt_B_C.slice(-1, R, R + N)).dequantize();
  const Tensor C = ssm_C_(dt_B_C.slice(-1, R + N)).dequantize();

  // A is rounded, where it is, in the log domain.
  const Tensor A = A_log_.value.exp().neg();
  const Tensor y = ops::selective_scan(u.dequantize(), dt, A, B, C, D_.value, z, h);
  return hidden + out_proj_(ssm_output_(y));
}

BlockState MambaBlock::initial_state(int64_t batch) const {
  const auto options = norm_.value.options();
  return {{at::zeros({batch, config_.d_conv - 1, config_.d_inner}, options),
           at::zeros({batch, config_.d_inner, config_.d_state}, options)}};
}

std::vector<Site*> MambaBlock::sites() {
  return {&in_proj_input_, &conv_input_, &z_,     &ssm_x_,     &dt_proj_input_,
          &ssm_dt_,        &ssm_B_,      &ssm_C_, &ssm_output_};
}

std::vector<Linear*> MambaBlock::linears() {
  return {&in_proj_, &x_proj_, &dt_proj_, &out_proj_};
}

std::vector<Weight*> MambaBlock::weights() {
  std::vector<Weight*> all = {&norm_,           &in_proj_.weight, &conv_weight_, &x_proj_.weight,
                              &dt_proj_.weight, &A_log_,          &D_,           &out_proj_.weight};
  if (conv_bias_) all.push_back(&*conv_bias_);
  for (Linear* linear : linears()) {
    if (linear->bias) all.push_back(&*linear->bias);
  }
  return all;
}

// The conv, silu and the scan are not linear in their channels' scale, so only two sites have producers to
// fold into.
std::vector<FoldEdge> MambaBlock::fold_edges() {
  return {{"in_proj.input", {{&norm_, 0}}, {&in_proj_}},
          {"dt_proj.input", {{&x_proj_.weight, 0}}, {&dt_proj_}}};
}

// The scan: exp(dt A), dt B u, the update of h and its product with C, of every channel and state; and the
// conv.
MixingCost MambaBlock::mixing_cost(int64_t length) const {
  const int64_t E = config_.d_inner, N = config_.d_state, W = config_.d_conv;
  return {static_cast<double>(length * E) * static_cast<double>(9 * N + 2 * W), E * (N + W - 1)};
}

}  // namespace ptq
