// Rotates queries and keys, head by head, by one Hadamard matrix (QuaRot, arXiv 2404.00456, section 4).
//
// Queries and keys meet only in inner products, so H q and H k give the same attention: (q H)(k H)^T = q k^T.
// Applied after the rotary embedding, where outlier channels of keys would set the step of a whole head.
// B and C of a Mamba-2 mixer are such a pair: a head has one decay for all its states, so they may be turned.
#include <algorithm>

#include "ptq/base/error.h"
#include "ptq/step/rewrites.h"
#include "step/options.h"
#include "step/step_makers.h"

namespace ptq {
namespace {

class QueryKeyHadamardStep : public Step {
 public:
  explicit QueryKeyHadamardStep(JsonFields& options)
      : of_(choice(options, "pairs", Pairs::kAll,
                   {{"all", Pairs::kAll}, {"attention", Pairs::kAttention}, {"ssm", Pairs::kStateSpace}})) {
    options.finish();
  }

  void check(const std::vector<Sublayer*>& sublayers) const override {
    if (std::ranges::any_of(sublayers, [&](Sublayer* sublayer) { return !pairs(*sublayer).empty(); })) return;
    const char* missing = of_ == Pairs::kAttention ? "queries and keys: the model has no attention"
                          : of_ == Pairs::kStateSpace
                              ? "B and C to rotate: the model has no Mamba-2"
                              : "queries and keys: the model has no attention, nor B and C of Mamba-2";
    throw usage_error("qk_hadamard", std::string("there are no ") + missing);
  }

  Needs needs(Sublayer&) const override { return {}; }

  void apply(Sublayer& sublayer, StepContext& context) const override {
    for (const ProductPair& pair : pairs(sublayer)) {
      const Hadamard H = matrix(pair);
      append_op(sublayer, pair.left, H, context.statistics);
      append_op(sublayer, pair.right, H, context.statistics);
    }
  }

  void plan(Sublayer& sublayer, PlanContext&) const override {
    for (const ProductPair& pair : pairs(sublayer)) {
      const Hadamard H = matrix(pair);
      place_op(sublayer, pair.left, H);
      place_op(sublayer, pair.right, H);
    }
  }

 private:
  enum class Pairs { kAll, kAttention, kStateSpace };

  std::vector<ProductPair> pairs(Sublayer& sublayer) const {
    std::vector<ProductPair> pairs = sublayer.product_pairs();
    std::erase_if(pairs, [&](const ProductPair& pair) {
      const bool attention = sublayer.site(pair.left).kind == "attention";
      return of_ != Pairs::kAll && attention != (of_ == Pairs::kAttention);
    });
    return pairs;
  }

  static Hadamard matrix(const ProductPair& pair) {
    return make_block_hadamard(pair.width, power_of_two_block(pair.width, pair.width));
  }

  Pairs of_;
};

}  // namespace

std::unique_ptr<Step> make_qk_hadamard_step(JsonFields& options) {
  return std::make_unique<QueryKeyHadamardStep>(options);
}

}  // namespace ptq
