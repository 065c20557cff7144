#include "ptq/solve/error_feedback.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "../base/expect_error.h"
#include "ptq/ops/ops.h"

namespace ptq {
namespace {

// Inputs of a float model, and those that a rounded one makes of them.
struct Inputs {
  Tensor x, rounded;  // [tokens, n] float64
  Tensor R() const { return rounded.t().matmul(rounded) / rounded.size(0); }
  Tensor D() const { return (x - rounded).t().matmul(rounded) / rounded.size(0); }
};

Inputs make_inputs() {
  at::manual_seed(1);
  const Tensor x = at::randn({400, 12}, at::kDouble);
  return {x, x + 0.3 * at::randn({400, 12}, at::kDouble) + 0.2 * x.roll(1, 1)};
}

Tensor with_feedback(const Tensor& W, const Tensor& R, const Tensor& D, double strength, double damping) {
  return ErrorFeedback(R, D, strength, damping)(W);
}

double output_error(const Tensor& W, const Tensor& Q, const Inputs& inputs) {
  const Tensor wanted = inputs.x.matmul(W.to(at::kDouble).t());
  return (wanted - inputs.rounded.matmul(Q.to(at::kDouble).t())).norm().item<double>();
}

TEST(WithFeedback, AllOfItIsTheLeastSquaresSolution) {
  const Inputs inputs = make_inputs();
  const Tensor W = at::randn({5, 12});
  const Tensor best = with_feedback(W, inputs.R(), inputs.D(), 1, 1e-6);
  const double least = output_error(W, best, inputs);
  EXPECT_LT(least, 0.95 * output_error(W, W, inputs));
  for (int i = 0; i < 8; ++i) EXPECT_GT(output_error(W, best + 1e-2 * at::randn({5, 12}), inputs), least);
}

TEST(WithFeedback, HalfOfItIsHalfWay) {
  const Inputs inputs = make_inputs();
  const Tensor W = at::randn({5, 12});
  const Tensor all = with_feedback(W, inputs.R(), inputs.D(), 1, 0.01);
  const Tensor half = with_feedback(W, inputs.R(), inputs.D(), 0.5, 0.01);
  EXPECT_TRUE(at::allclose(half, (W + all) / 2, 1e-5, 1e-6));
}

TEST(WithFeedback, InputsThatAreTheSameLeaveTheWeight) {
  const Inputs inputs = make_inputs();
  const Tensor W = at::randn({5, 12});
  EXPECT_TRUE(at::equal(with_feedback(W, inputs.R(), at::zeros({12, 12}, at::kDouble), 1, 0.01), W));
  const Tensor nothing = at::zeros({12, 12}, at::kDouble);
  EXPECT_TRUE(at::equal(with_feedback(W, nothing, nothing, 1, 0.01), W));
}

TEST(WithFeedback, ChannelsThatAreAlwaysZeroStayAsTheyAre) {
  Inputs inputs = make_inputs();
  inputs.x.select(1, 3).zero_();
  inputs.rounded.select(1, 3).zero_();
  const Tensor W = at::randn({5, 12});
  const Tensor shifted = with_feedback(W, inputs.R(), inputs.D(), 1, 0.01);
  EXPECT_TRUE(at::isfinite(shifted).all().item<bool>());
  EXPECT_TRUE(at::allclose(shifted.select(1, 3), W.select(1, 3)));
}

TEST(WithFeedback, MomentThatIsNoneIsAnError) {
  const Tensor R = at::diag(at::tensor({1.0, -5.0}, at::kDouble)) + 3 * at::ones({2, 2}, at::kDouble);
  EXPECT_ERROR(with_feedback(at::ones({1, 2}), R, R, 1, 0.01), ExitCode::kFailed, "not positive definite");
}

TEST(AddCross, IsTheProductForAnyNumberOfThreads) {
  at::manual_seed(2);
  const Tensor a = at::randn({1100, 201}), b = at::randn({1100, 30});
  const Tensor sum = at::zeros({201, 30}, at::kDouble);
  ops::add_cross(sum, a, b);
  EXPECT_TRUE(at::allclose(sum, a.to(at::kDouble).t().matmul(b.to(at::kDouble)), 1e-4, 1e-3));
  const int threads = at::get_num_threads();
  for (const int count : {1, 2, 3}) {
    at::set_num_threads(count);
    const Tensor again = at::zeros({201, 30}, at::kDouble);
    ops::add_cross(again, a, b);
    EXPECT_TRUE(at::equal(again, sum)) << count;
  }
  at::set_num_threads(threads);
}

}  // namespace
}  // namespace ptq
