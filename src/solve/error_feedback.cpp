#include "ptq/solve/error_feedback.h"

#include "ptq/base/error.h"
#include "ptq/ops/one_thread.h"

namespace ptq {

ErrorFeedback::ErrorFeedback(const Tensor& R, const Tensor& D, double strength, double damping)
    : D_(D), strength_(strength) {
  const double mean = R.diagonal().mean().item<double>();
  if (mean == 0) return;
  const OneThread one_thread;
  Tensor damped = R.clone();
  damped.diagonal().add_(damping * mean);
  const auto [factor, failed] = at::linalg_cholesky_ex(damped);
  if (failed.item<int>() != 0) {
    throw Error("error feedback",
                "a second moment is not positive definite with a damping of " + std::to_string(damping),
                "a larger feedback.damping, or feedback.strength 0");
  }
  factor_ = factor;
}

Tensor ErrorFeedback::operator()(const Tensor& W) const {
  if (!factor_.defined()) return W;
  const OneThread one_thread;
  const Tensor shift = at::cholesky_solve(at::matmul(D_.t(), W.t().to(at::kDouble)), factor_);  // [in, out]
  return (W + strength_ * shift.t()).to(at::kFloat);
}

}  // namespace ptq
