// One Mamba-1 block: norm, mixer, residual.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "model/mamba_config.h"
#include "ptq/model/model.h"

namespace ptq {

class MambaBlock : public Block {
 public:
  MambaBlock(const WeightSource& source, const MambaConfig& config, int64_t index);

  std::unique_ptr<Block> clone() const override { return std::make_unique<MambaBlock>(*this); }
  Tensor forward(const Tensor& hidden, BlockState* state) const override;
  BlockState initial_state(int64_t batch) const override;
  const std::string& prefix() const override { return prefix_; }
  std::vector<Site*> sites() override;
  std::vector<Linear*> linears() override;
  std::vector<Weight*> weights() override;
  std::vector<FoldEdge> fold_edges() override;
  MixingCost mixing_cost(int64_t length) const override;

 private:
  std::string prefix_;  // "backbone.layers.3.mixer"
  MambaConfig config_;

  Weight norm_;                      // [d]
  Linear in_proj_;                   // [2E, d], rows x then z
  Weight conv_weight_;               // [E, 1, W]
  std::optional<Weight> conv_bias_;  // [E]
  Linear x_proj_;                    // [R + 2N, E], rows dt, B, C
  Linear dt_proj_;                   // [E, R], with bias
  Weight A_log_;                     // [E, N]
  Weight D_;                         // [E]
  Linear out_proj_;                  // [d, E]

  Site in_proj_input_, conv_input_, z_, ssm_x_, dt_proj_input_, ssm_dt_, ssm_B_, ssm_C_, ssm_output_;
};

}  // namespace ptq
