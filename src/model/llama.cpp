#include "model/llama.h"

#include "model/llama_block.h"
#include "model/llama_config.h"
#include "model/outer_weights.h"
#include "model/reading.h"

namespace ptq {
namespace {

class LlamaModel : public Model {
 public:
  explicit LlamaModel(const WeightSource& source) : source_(source), config_(read_llama_config(source)) {
    device_ = source.device();
    config_.rope.frequencies = config_.rope.frequencies.to(device_);
    warnings_ = config_.warnings;
    outer_ = read_outer_weights(source, "model.embed_tokens.weight", "model.norm.weight", config_.tied,
                                notes_, warnings_);
    outer_.norm_eps = config_.norm_eps;
    if (!outer_.head) tied_head_ = kHead;
    num_parameters_ = count_parameters(source, !outer_.head);
  }

  int64_t num_blocks() const override { return config_.num_layers; }
  std::unique_ptr<Block> load_block(int64_t index) const override {
    return std::make_unique<LlamaBlock>(source_, config_, index);
  }
  int64_t vocab_size() const override { return config_.vocab_size; }
  int64_t hidden_size() const override { return config_.hidden; }
  int64_t context_limit() const override { return config_.context_limit; }
  int64_t start_token() const override { return config_.start_token.id(); }
  Json config() const override { return with_true_head(source_.config(), config_.tied, !outer_.head); }

  Tensor embed(const Tensor& ids) const override { return outer_.embed(ids); }
  Tensor logits(const Tensor& hidden) const override { return outer_.logits(hidden); }
  std::vector<Weight*> outer_weights() override { return outer_.all(); }

 private:
  const WeightSource& source_;
  LlamaConfig config_;
  OuterWeights outer_;
};

}  // namespace

std::unique_ptr<Model> make_llama(const WeightSource& source) {
  return std::make_unique<LlamaModel>(source);
}

}  // namespace ptq
