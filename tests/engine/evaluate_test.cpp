#include "ptq/engine/evaluate.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "../base/expect_error.h"

namespace ptq {
namespace {

// A model without blocks: the hidden state of a token is its logits.
class Table : public Model {
 public:
  explicit Table(Tensor table) : table_(std::move(table)) {}
  int64_t num_blocks() const override { return 0; }
  std::unique_ptr<Block> load_block(int64_t) const override { return nullptr; }
  int64_t vocab_size() const override { return table_.size(0); }
  int64_t hidden_size() const override { return table_.size(1); }
  int64_t context_limit() const override { return 0; }
  int64_t start_token() const override { return 0; }
  Json config() const override { return {}; }
  Tensor embed(const Tensor& ids) const override { return at::embedding(table_, ids); }
  Tensor logits(const Tensor& hidden) const override { return hidden; }
  std::vector<Weight*> outer_weights() override { return {}; }

 private:
  Tensor table_;  // [vocab, vocab]: row t holds the logits after token t
};

// After 0 the next is 1 with probability 3/4; after 1 both are as likely.
Table uneven() {
  return Table(at::tensor({0.0F, std::log(3.0F), 0.0F, 0.0F}).reshape({2, 2}));
}

TEST(Evaluate, LossesAreThoseComputedByHand) {
  const Table model = uneven();
  const LossSums sums = evaluate(model, at::tensor({0, 1, 0, 0}, at::kLong).reshape({2, 2}), nullptr, [] {});
  EXPECT_EQ(sums.tokens, 2);  // 0 -> 1 and 0 -> 0
  EXPECT_NEAR(sums.nll, -std::log(0.75) - std::log(0.25), 1e-6);
  EXPECT_NEAR(sums.perplexity(), std::sqrt(1 / (0.75 * 0.25)), 1e-6);
}

TEST(Evaluate, DivergenceIsThatOfTheReference) {
  const Table model = uneven();
  const Table even(at::zeros({2, 2}));
  const Tensor ids = at::tensor({0, 1, 1}, at::kLong).reshape({1, 3});
  const LossSums sums = evaluate(model, ids, &even, [] {});
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
  EXPECT_ERROR(evaluate(overflows, ids, nullptr, [] {}), ExitCode::kFailed,
               "the model's head: 1 of 4 values of the logits are NaN or infinite");
  EXPECT_ERROR(evaluate(overflows, ids, &even, [] {}), ExitCode::kFailed, "the quantized model's head");
  EXPECT_ERROR(evaluate(even, ids, &overflows, [] {}), ExitCode::kFailed, "the reference model's head");
}

TEST(Evaluate, APerplexityPastTheLargestNumberIsAnError) {
  const Table wrong(at::tensor({2000.0F, 0.0F, 0.0F, 0.0F}).reshape({2, 2}));
  const LossSums sums = evaluate(wrong, at::tensor({0, 1}, at::kLong).reshape({1, 2}), nullptr, [] {});
  EXPECT_EQ(sums.mean_nll(), 2000);
  EXPECT_ERROR(sums.perplexity(), ExitCode::kFailed, "mean negative log likelihood of 2000.0 nats");
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
