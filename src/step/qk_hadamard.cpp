// Rotates queries and keys, head by head, by one Hadamard matrix (QuaRot, arXiv 2404.00456, section 4).
//
// Queries and keys meet only in inner products, so H q and H k give the same attention: (q H)(k H)^T = q k^T.
// Applied after the rotary embedding, where outlier channels of keys would set the step of a whole head.
// B and C of a Mamba-2 mixer are such a pair: a head has one decay for all its states, so they may be turned.
#include <algorithm>

#include "ptq/base/error.h"
#include "ptq/step/rewrites.h"
#include "step/step_makers.h"

namespace ptq {
namespace {

class QueryKeyHadamardStep : public Step {
 public:
  explicit QueryKeyHadamardStep(JsonFields& options) { options.finish(); }

  void check(const std::vector<Sublayer*>& sublayers) const override {
    const auto has_pairs = [](Sublayer* sublayer) { return !sublayer->product_pairs().empty(); };
    if (std::any_of(sublayers.begin(), sublayers.end(), has_pairs)) return;
    throw usage_error("qk_hadamard",
                      "there are no queries and keys: the model has no attention, nor B and C of Mamba-2");
  }

  Needs needs(Sublayer&) const override { return {}; }

  void apply(Sublayer& sublayer, StepContext& context) const override {
    for (const ProductPair& pair : sublayer.product_pairs()) {
      const Hadamard H = matrix(pair);
      append_op(sublayer, pair.left, H, context.statistics);
      append_op(sublayer, pair.right, H, context.statistics);
    }
  }

  void plan(Sublayer& sublayer, PlanContext&) const override {
    for (const ProductPair& pair : sublayer.product_pairs()) {
      const Hadamard H = matrix(pair);
      place_op(sublayer, pair.left, H);
      place_op(sublayer, pair.right, H);
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
