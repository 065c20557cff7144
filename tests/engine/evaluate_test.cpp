#include "ptq/engine/evaluate.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

#include "../base/expect_error.h"
#include "model/layout.h"

namespace ptq {
namespace {

// The tensors of a model without blocks, whose logits after token t are row t of `table` [vocab, vocab]: the
// norm makes sqrt(vocab) of the 1 in a row of the identity.
class TableSource : public WeightSource {
 public:
  explicit TableSource(const Tensor& table) {
    const int64_t vocab = table.size(0);
    values_ = {{"embedding", at::eye(vocab)},
               {"norm", at::ones({vocab})},
               {"lm_head.weight", table.t() / std::sqrt(static_cast<double>(vocab))}};
    for (const auto& [name, value] : values_) infos_[name] = {name, DType::kF32, value.sizes().vec()};
  }
  const TensorInfo* find(const std::string& name) const override {
    return infos_.contains(name) ? &infos_.at(name) : nullptr;
  }
  Weight read(const std::string& name, Role role, const std::vector<int64_t>&) const override {
    return {name, role, values_.at(name), at::kFloat};
  }
  std::vector<std::string> names() const override { return {"embedding", "lm_head.weight", "norm"}; }
  const Json& config() const override { return config_; }
  bool tied(const std::string&, const std::string&) const override { return false; }
  at::Device device() const override { return at::kCPU; }

 private:
  std::map<std::string, Tensor> values_;
  std::map<std::string, TensorInfo> infos_;
  Json config_;
};

struct Table {
  explicit Table(const Tensor& table) : source(table), model(source, layout()) {}
  static ModelLayout layout() {
    ModelLayout layout;
    layout.embedding = "embedding";
    layout.final_norm = {"norm", 0};
    return layout;
  }
  TableSource source;
  Model model;
};

// After 0 the next is 1 with probability 3/4; after 1 both are as likely.
Tensor uneven() {
  return at::tensor({0.0F, std::log(3.0F), 0.0F, 0.0F}).reshape({2, 2});
}

TEST(Evaluate, LossesAreThoseComputedByHand) {
  const Table table(uneven());
  const LossSums sums =
      evaluate(table.model, at::tensor({0, 1, 0, 0}, at::kLong).reshape({2, 2}), nullptr, [] {});
  EXPECT_EQ(sums.tokens, 2);  // 0 -> 1 and 0 -> 0
  EXPECT_NEAR(sums.nll, -std::log(0.75) - std::log(0.25), 1e-6);
  EXPECT_NEAR(sums.perplexity(), std::sqrt(1 / (0.75 * 0.25)), 1e-6);
}

TEST(Evaluate, DivergenceIsThatOfTheReference) {
  const Table table(uneven());
  const Table even(at::zeros({2, 2}));
  const Tensor ids = at::tensor({0, 1, 1}, at::kLong).reshape({1, 3});
  const LossSums sums = evaluate(table.model, ids, &even.model, [] {});
  EXPECT_NEAR(sums.reference_perplexity(), 2, 1e-6);
  // KL(even || 3/4, 1/4) after the 0, nothing after the 1.
  EXPECT_NEAR(sums.kl, 0.5 * std::log(0.5 / 0.75) + 0.5 * std::log(0.5 / 0.25), 1e-6);
  EXPECT_EQ(sums.agreeing, 1);
}

TEST(Evaluate, InfiniteLogitsAreAnErrorThatNamesTheHead) {
  const float infinity = std::numeric_limits<float>::infinity();
  const Table overflows(at::tensor({0.0F, infinity, 0.0F, 0.0F}).reshape({2, 2}));
  const Table even(at::zeros({2, 2}));
  const Tensor ids = at::tensor({0, 1, 1}, at::kLong).reshape({1, 3});
  EXPECT_ERROR(evaluate(overflows.model, ids, nullptr, [] {}), ExitCode::kFailed,
               "of 4 values of the logits are NaN or infinite");
  EXPECT_ERROR(evaluate(overflows.model, ids, &even.model, [] {}), ExitCode::kFailed,
               "the quantized model's head");
  EXPECT_ERROR(evaluate(even.model, ids, &overflows.model, [] {}), ExitCode::kFailed,
               "the reference model's head");
}

TEST(Evaluate, APerplexityPastTheLargestNumberIsAnError) {
  const Table wrong(at::tensor({2000.0F, 0.0F, 0.0F, 0.0F}).reshape({2, 2}));
  const LossSums sums = evaluate(wrong.model, at::tensor({0, 1}, at::kLong).reshape({1, 2}), nullptr, [] {});
  EXPECT_NEAR(sums.mean_nll(), 2000, 1e-3);
  EXPECT_ERROR(sums.perplexity(), ExitCode::kFailed, "mean negative log likelihood of ");
}

TEST(Evaluate, WindowsDropTheShortRestUnlessItIsAll) {
  const std::vector<int64_t> ids = {1, 2, 3, 4, 5};
  EXPECT_TRUE(
      at::equal(evaluation_windows(ids, 2, "x"), at::tensor({1, 2, 3, 4}, at::kLong).reshape({2, 2})));
  EXPECT_EQ(evaluation_windows(ids, 9, "x").sizes(), (std::vector<int64_t>{1, 5}));
  EXPECT_ERROR(evaluation_windows({1}, 2, "a.txt"), ExitCode::kFailed, "a.txt: has 1 tokens");
}

}  // namespace
}  // namespace ptq
