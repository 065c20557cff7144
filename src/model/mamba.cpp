#include "model/mamba.h"

#include "model/mamba_config.h"
#include "model/mamba_words.h"

namespace ptq {

ModelLayout mamba_layout(const WeightSource& source) {
  const MambaConfig config = read_mamba_config(source);
  ModelLayout model;
  model.embedding = config.embedding;
  model.start_token = config.start_token;
  model.tied = config.tied;
  model.config = hugging_face_config(config, source.config());
  model.warnings = config.warnings;
  const Mamba1Layout mixer{.d_model = config.d_model,
                           .d_inner = config.d_inner,
                           .d_state = config.d_state,
                           .d_conv = config.d_conv,
                           .dt_rank = config.dt_rank,
                           .linear_bias = config.linear_bias,
                           .conv_bias = config.conv_bias};
  add_mixers(model, config.num_layers, config.norm_eps, mixer);
  return model;
}

}  // namespace ptq
