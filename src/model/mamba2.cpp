#include "model/mamba2.h"

#include "model/mamba2_config.h"
#include "model/mamba_words.h"

namespace ptq {

ModelLayout mamba2_layout(const WeightSource& source) {
  const Mamba2Config config = read_mamba2_config(source);
  ModelLayout model;
  model.embedding = config.embedding;
  model.start_token = config.start_token;
  model.tied = config.tied;
  model.config = hugging_face_config(config, source.config());
  model.warnings = config.warnings;
  add_mixers(model, config.num_layers, config.norm_eps, config.mixer);
  return model;
}

}  // namespace ptq
