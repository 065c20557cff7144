#include "ptq/solve/error_feedback.h"

#include "ptq/base/error.h"
#include "ptq/ops/one_thread.h"

namespace ptq {

Tensor with_feedback(const Tensor& W, const Tensor& R, const Tensor& D, double strength, double damping) {
  const double mean = R.diagonal().mean().item<double>();
  if (mean == 0) return W;
  const OneThread one_thread;
  Tensor damped = R.clone();
  damped.diagonal().add_(damping * mean);
  const auto [factor, failed] = at::linalg_cholesky_ex(damped);
  if (failed.item<int>() != 0) {
    throw Error("error feedback",
                "a second moment is not positive definite with a damping of " + std::to_string(damping),
                "a larger feedback.damping, or feedback.strength 0");
  }
  const Tensor shift = at::cholesky_solve(at::matmul(D.t(), W.t().to(at::kDouble)), factor);  // [in, out]
  return (W + strength * shift.t()).to(at::kFloat);
}

}  // namespace ptq
