#include "model/mamba.h"

#include "model/mamba_block.h"
#include "model/mamba_config.h"
#include "model/outer_weights.h"
#include "model/reading.h"

namespace ptq {
namespace {

class MambaModel : public Model {
 public:
  explicit MambaModel(const WeightSource& source) : source_(source), config_(read_mamba_config(source)) {
    device_ = source.device();
    warnings_ = config_.warnings;
    outer_ = read_outer_weights(source, config_.embedding, "backbone.norm_f.weight", config_.tied, notes_,
                                warnings_);
    outer_.norm_eps = config_.norm_eps;
    if (!outer_.head) tied_head_ = kHead;
    num_parameters_ = count_parameters(source, !outer_.head);
  }

  int64_t num_blocks() const override { return config_.num_layers; }
  std::unique_ptr<Block> load_block(int64_t index) const override {
    return std::make_unique<MambaBlock>(source_, config_, index);
  }
  int64_t vocab_size() const override { return config_.vocab_size; }
  int64_t hidden_size() const override { return config_.d_model; }
  int64_t context_limit() const override { return 0; }
  int64_t start_token() const override { return config_.start_token.id(); }
  Json config() const override { return hugging_face_config(config_, source_.config(), !outer_.head); }

  Tensor embed(const Tensor& ids) const override { return outer_.embed(ids); }
  Tensor logits(const Tensor& hidden) const override { return outer_.logits(hidden); }
  std::vector<Weight*> outer_weights() override { return outer_.all(); }

 private:
  const WeightSource& source_;
  MambaConfig config_;
  OuterWeights outer_;
};

}  // namespace

std::unique_ptr<Model> make_mamba(const WeightSource& source) {
  return std::make_unique<MambaModel>(source);
}

}  // namespace ptq
