// FalconMamba (arXiv 2410.05355): Mamba-1 with RMS norms without gains of dt, B and C. Only the configuration
// tells it from Mamba-1.
#include "model/layout_reader.h"
#include "model/layouts.h"
#include "model/mamba_words.h"

namespace ptq {

ModelLayout falcon_mamba_layout(const WeightSource& source) {
  LayoutReader reader(source, "FalconMamba", "backbone.embeddings.weight", "backbone.layers.", /*tied=*/true);
  JsonFields& fields = reader.fields;
  const double eps = reader.eps("layer_norm_epsilon", 1e-5);
  Mamba1Layout mixer = read_mamba1_sizes(source, reader.layer(0) + ".mixer", reader.hidden);
  mixer.linear_bias = reader.bias("use_bias", false, mixer.prefix + ".in_proj.bias");
  mixer.conv_bias = reader.bias("use_conv_bias", true, mixer.prefix + ".conv1d.bias");
  mixer.norms = Mamba1Layout::Norms{.eps = reader.eps("mixer_rms_eps", 1e-6)};
  expect_equal(fields, {"hidden_size"}, reader.hidden);
  expect_equal(fields, {"intermediate_size"}, mixer.d_inner);
  expect_equal(fields, {"state_size"}, mixer.d_state);
  expect_equal(fields, {"conv_kernel"}, mixer.d_conv);
  expect_equal(fields, {"time_step_rank"}, mixer.dt_rank);
  expect_silu(fields, "FalconMamba");
  add_mixers(reader.model, reader.num_layers, eps, mixer);
  return reader.finish({"expand", "residual_in_fp32", "rescale_prenorm_residual", "time_step_*",
                        "use_associative_scan", "use_falcon_mambapy", "use_mambapy", "use_mamba_kernels"});
}

}  // namespace ptq
