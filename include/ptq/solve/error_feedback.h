// Error feedback: a linear is rounded not for the inputs of the float model, but for those that it will see,
// behind layers that are rounded already, and takes back what these have lost.
//
// With the input x of the float model and x^ of the rounded one, R = E[x^ x^^T] and D = E[(x - x^) x^^T],
//
//   W* = W + a W D (R + l mean(diag R) I)^-1
//
// leaves, at a = 1 and l = 0, |W x - Q x^|^2 = tr((Q - W*) R (Q - W*)^T) + const: to round W* under R is the
// right problem. (QEP, arXiv 2504.09629, and GPTAQ, arXiv 2504.02692, in their closed form.) Less than all
// of the shift, and some damping, keep it from learning the noise of few tokens.
#pragma once

#include <ATen/ATen.h>

namespace ptq {

using at::Tensor;

// Of all linears that read one site. On CPUs, the same bits for any number of threads.
class ErrorFeedback {
 public:
  // R, D [in, in] float64; strength a in (0, 1]; damping l > 0. Throws Error if R is not positive definite
  // with its damping. Cost: in^3 / 3 multiplications in float64.
  ErrorFeedback(const Tensor& R, const Tensor& D, double strength, double damping);
  // W* of W [out, in] float32; W where R is 0. Cost: 2 out in^2 multiplications in float64.
  Tensor operator()(const Tensor& W) const;

 private:
  Tensor factor_;  // of the damped R; undefined if R is 0
  Tensor D_;
  double strength_;
};

}  // namespace ptq
