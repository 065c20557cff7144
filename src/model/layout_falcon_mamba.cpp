// FalconMamba (arXiv 2410.05355): Mamba-1 with RMS norms without gains of dt, B and C. Only the configuration
// tells it from Mamba-1.
#include "model/layout_reader.h"
#include "model/layouts.h"

namespace ptq {

ModelLayout falcon_mamba_layout(const WeightSource& source) {
  LayoutReader reader(source, "FalconMamba", "backbone.embeddings.weight", "backbone.layers.", /*tied=*/true);
  JsonFields& fields = reader.fields;
  const std::string first = reader.layer(0) + ".mixer.";
  const double eps = reader.eps("layer_norm_epsilon", 1e-5);
  reader.model.final_norm = NormLayout{"backbone.norm_f.weight", eps};
  Mamba1Layout mixer{.d_model = reader.hidden,
                     .d_inner = need(source, first + "A_log", 2).shape[0],
                     .d_state = need(source, first + "A_log", 2).shape[1],
                     .d_conv = need(source, first + "conv1d.weight", 3).shape[2],
                     .dt_rank = need(source, first + "dt_proj.weight", 2).shape[1],
                     .linear_bias = reader.bias("use_bias", false, first + "in_proj.bias"),
                     .conv_bias = reader.bias("use_conv_bias", true, first + "conv1d.bias"),
                     .norms = Mamba1Layout::Norms{.eps = reader.eps("mixer_rms_eps", 1e-6)}};
  expect_equal(fields, {"hidden_size"}, reader.hidden);
  expect_equal(fields, {"intermediate_size"}, mixer.d_inner);
  expect_equal(fields, {"state_size"}, mixer.d_state);
  expect_equal(fields, {"conv_kernel"}, mixer.d_conv);
  expect_equal(fields, {"time_step_rank"}, mixer.dt_rank);
  expect_silu(fields, "FalconMamba");
  for (int64_t i = 0; i < reader.num_layers; ++i) {
    mixer.prefix = reader.layer(i) + ".mixer";
    reader.model.blocks.push_back(
        {mixer.prefix, {pre_normed({reader.layer(i) + ".norm.weight", eps}, mixer)}});
  }
  return reader.finish({"expand", "residual_in_fp32", "rescale_prenorm_residual", "time_step_*",
                        "use_associative_scan", "use_falcon_mambapy", "use_mambapy", "use_mamba_kernels"});
}

}  // namespace ptq
