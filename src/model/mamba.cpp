#include "model/mamba.h"

#include "model/mamba_config.h"

namespace ptq {

ModelLayout mamba_layout(const WeightSource& source) {
  const MambaConfig config = read_mamba_config(source);
  ModelLayout model;
  model.embedding = config.embedding;
  model.final_norm = NormLayout{"backbone.norm_f.weight", config.norm_eps};
  model.start_token = config.start_token;
  model.tied = config.tied;
  model.config = hugging_face_config(config, source.config());
  model.warnings = config.warnings;
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const std::string layer = "backbone.layers." + std::to_string(i);
    const Mamba1Layout mixer{.prefix = layer + ".mixer",
                             .d_model = config.d_model,
                             .d_inner = config.d_inner,
                             .d_state = config.d_state,
                             .d_conv = config.d_conv,
                             .dt_rank = config.dt_rank,
                             .linear_bias = config.linear_bias,
                             .conv_bias = config.conv_bias};
    model.blocks.push_back({mixer.prefix, {pre_normed({layer + ".norm.weight", config.norm_eps}, mixer)}});
  }
  return model;
}

}  // namespace ptq
