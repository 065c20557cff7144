// A checkpoint of tensors made in a test, and what it computes.
#pragma once

#include <memory>
#include <vector>

#include "../base/temp_directory.h"
#include "ptq/model/model.h"
#include "toy_models.h"

namespace ptq::testing {

// With a config.json if one is given.
class Source {
 public:
  explicit Source(const TensorMap& tensors, const Json& config = {}) {
    write_safetensors(directory_ / "model.safetensors", tensors);
    if (!config.is_null()) directory_.write("config.json", python_json_text(config, 1));
    checkpoint_ = open_checkpoint(directory_ / "model.safetensors");
    floats_ = std::make_unique<FloatSource>(*checkpoint_, at::kCPU);
  }
  const FloatSource& operator*() const { return *floats_; }
  const FloatSource* operator->() const { return floats_.get(); }
  std::unique_ptr<Model> model() const { return find_architecture(*floats_, "test").make(*floats_); }

 private:
  TempDirectory directory_;
  std::unique_ptr<Checkpoint> checkpoint_;
  std::unique_ptr<FloatSource> floats_;
};

inline at::Tensor toy_ids() {
  return at::arange(24).reshape({2, 12}).mul(7).remainder(50);
}

// Logits of all positions at once.
inline at::Tensor logits_of(const Model& model, const at::Tensor& ids) {
  at::Tensor hidden = model.embed(ids);
  for (int64_t i = 0; i < model.num_blocks(); ++i) hidden = model.load_block(i)->forward(hidden);
  return model.logits(hidden);
}

// A copy of the block that shares its tensors.
inline std::unique_ptr<Block> clone_of(const Block& block) {
  std::vector<Sublayer> sublayers;
  for (const Sublayer& sublayer : block.sublayers()) sublayers.push_back(sublayer.clone());
  return std::make_unique<Block>(block.prefix(), std::move(sublayers));
}

}  // namespace ptq::testing
