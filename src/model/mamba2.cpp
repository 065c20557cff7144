#include "model/mamba2.h"

#include "model/mamba2_config.h"

namespace ptq {

ModelLayout mamba2_layout(const WeightSource& source) {
  const Mamba2Config config = read_mamba2_config(source);
  ModelLayout model;
  model.embedding = config.embedding;
  model.final_norm = NormLayout{"backbone.norm_f.weight", config.norm_eps};
  model.start_token = config.start_token;
  model.tied = config.tied;
  model.config = hugging_face_config(config, source.config());
  model.warnings = config.warnings;
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const std::string layer = "backbone.layers." + std::to_string(i);
    Mamba2Layout mixer = config.mixer;
    mixer.prefix = layer + ".mixer";
    model.blocks.push_back({mixer.prefix, {pre_normed({layer + ".norm.weight", config.norm_eps}, mixer)}});
  }
  return model;
}

}  // namespace ptq
