// Rotates queries and keys, head by head, by one Hadamard matrix (QuaRot, arXiv 2404.00456, section 4).
//
// Queries and keys meet only in inner products, so H q and H k give the same attention: (q H)(k H)^T = q k^T.
// Applied after the rotary embedding, where outlier channels of keys would set the step of a whole head.
#include "ptq/base/error.h"
#include "ptq/step/rewrites.h"
#include "step/step_makers.h"

namespace ptq {
namespace {

class QueryKeyHadamardStep : public Step {
 public:
  explicit QueryKeyHadamardStep(JsonFields& options) { options.finish(); }

  Needs needs(Block& block) const override {
    if (block.product_pairs().empty()) {
      throw usage_error("qk_hadamard",
                        block.prefix() + " has no queries and keys: the model has no attention");
    }
    return {};
  }

  void apply(Block& block, StepContext& context) const override {
    for (const ProductPair& pair : block.product_pairs()) {
      const Hadamard H = matrix(pair);
      append_stage(block, pair.left, H, context.statistics);
      append_stage(block, pair.right, H, context.statistics);
    }
  }

  void plan(Block& block, PlanContext&) const override {
    for (const ProductPair& pair : block.product_pairs()) {
      const Hadamard H = matrix(pair);
      place_stage(block, pair.left, H);
      place_stage(block, pair.right, H);
    }
  }

 private:
  static Hadamard matrix(const ProductPair& pair) {
    return make_block_hadamard(pair.width, power_of_two_block(pair.width, pair.width));
  }
};

}  // namespace

std::unique_ptr<Step> make_qk_hadamard_step(JsonFields& options) {
  return std::make_unique<QueryKeyHadamardStep>(options);
}

}  // namespace ptq
