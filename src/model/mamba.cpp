#include "model/mamba.h"

#include "model/mamba_block.h"
#include "model/mamba_config.h"
#include "ptq/base/error.h"
#include "ptq/ops/ops.h"

namespace ptq {
namespace {

class MambaModel : public Model {
 public:
  explicit MambaModel(const WeightSource& source) : source_(source), config_(read_mamba_config(source)) {
    device_ = source.device();
    embedding_ = source.read(config_.embedding, Role::kEmbedding, {config_.vocab_size, config_.d_model});
    final_norm_ = source.read("backbone.norm_f.weight", Role::kNorm, {config_.d_model});
    read_head();
    for (const std::string& name : source.names()) {
      if (config_.tied && name == "lm_head.weight") continue;
      num_parameters_ += source.find(name)->num_elements();
    }
  }

  int64_t num_blocks() const override { return config_.num_layers; }
  std::unique_ptr<Block> load_block(int64_t index) const override {
    return std::make_unique<MambaBlock>(source_, config_, index);
  }
  int64_t vocab_size() const override { return config_.vocab_size; }
  int64_t hidden_size() const override { return config_.d_model; }
  int64_t context_limit() const override { return 0; }
  int64_t start_token() const override { return config_.start_token; }
  Json config() const override { return hugging_face_config(config_, source_.config()); }

  Tensor embed(const Tensor& ids) const override { return at::embedding(embedding_.value, ids.to(device_)); }

  Tensor logits(const Tensor& hidden) const override {
    const Tensor normed = ops::rms_norm(hidden, final_norm_.value, config_.norm_eps);
    return ops::linear(normed, head_ ? head_->value : embedding_.value);
  }

  std::vector<Weight*> outer_weights() override {
    std::vector<Weight*> all = {&embedding_, &final_norm_};
    if (head_) all.push_back(&*head_);
    return all;
  }

 private:
  void read_head() {
    const bool stored = source_.find("lm_head.weight") != nullptr;
    if (!stored) return;
    if (source_.tied("lm_head.weight", config_.embedding)) {
      notes_.push_back("lm_head.weight is tied to " + config_.embedding + " and stored once");
      return;
    }
    head_ = source_.read("lm_head.weight", Role::kHead, {config_.vocab_size, config_.d_model});
    if (!config_.tied) return;
    if (at::equal(head_->value, embedding_.value)) {
      head_.reset();
      notes_.push_back("lm_head.weight is a copy of " + config_.embedding + " and stored once");
    } else {
      config_.tied = false;
      notes_.push_back("the configuration ties lm_head.weight to " + config_.embedding +
                       ", but their values differ: both are kept");
    }
  }

  const WeightSource& source_;
  MambaConfig config_;
  Weight embedding_;            // [vocab, d]
  Weight final_norm_;           // [d]
  std::optional<Weight> head_;  // [vocab, d]; absent if tied
};

}  // namespace

std::unique_ptr<Model> make_mamba(const WeightSource& source) {
  return std::make_unique<MambaModel>(source);
}

}  // namespace ptq
