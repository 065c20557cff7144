// One block of a Llama-like transformer: norm, attention, residual; norm, gated MLP, residual.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/llama_config.h"
#include "ptq/model/model.h"

namespace ptq {

class LlamaBlock : public Block {
 public:
  LlamaBlock(const WeightSource& source, const LlamaConfig& config, int64_t index);

  std::unique_ptr<Block> clone() const override { return std::make_unique<LlamaBlock>(*this); }
  Tensor forward(const Tensor& hidden, BlockState* state) const override;
  // Keys and values as their sites round them, [batch, kv_heads, kept, head_dim] each, how many tokens came
  // before, a scalar, and the buffers that keys and values lie in, with room for more. `kept` stops growing
  // where a window puts older tokens out of reach.
  BlockState initial_state(int64_t batch) const override;
  const std::string& prefix() const override { return prefix_; }
  std::vector<Site*> sites() override;
  std::vector<Linear*> linears() override;
  std::vector<Weight*> weights() override;
  std::vector<FoldEdge> fold_edges() override;
  MixingCost mixing_cost(int64_t length) const override;
  std::vector<ProductPair> product_pairs() override;

 private:
  Tensor attention(const Tensor& hidden, BlockState* state) const;
  Tensor rotated(const Tensor& y, const std::optional<Weight>& norm, const Turn& turn) const;
  Tensor by_head(const Activation& a) const;
  void remember(BlockState& state, Tensor& k, Tensor& v) const;

  std::string prefix_;  // "model.layers.3"
  int64_t heads_ = 0, kv_heads_ = 0, head_dim_ = 0;
  int64_t window_ = 0;  // 0: none
  double norm_eps_ = 0;
  Rope rope_;

  Weight input_norm_;                      // [d]
  Linear q_, k_, v_;                       // [H D, d], [K D, d], [K D, d]
  std::optional<Weight> q_norm_, k_norm_;  // [D]
  Linear o_;                               // [d, H D]
  Weight post_norm_;                       // [d]
  Linear gate_, up_;                       // [F, d]
  Linear down_;                            // [d, F]

  Site qkv_input_, attn_q_, attn_k_, attn_v_, o_input_, gate_up_input_, down_input_;
};

}  // namespace ptq
