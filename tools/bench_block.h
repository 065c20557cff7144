// What the benchmarks of one transformer block share.
#pragma once

#include <ATen/ATen.h>

#include <cstdlib>
#include <ctime>

namespace ptq {

// Of the process, all threads together.
inline double cpu_seconds() {
  return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

// E[x^T x] [in, in] float64 of inputs in which few directions hold most of the energy, as in models.
inline at::Tensor second_moment(int64_t in) {
  const at::Tensor mixing = at::randn({in, in}, at::kDouble) *
                            at::exp(at::arange(in, at::kDouble).mul(-6.0 / static_cast<double>(in)));
  const at::Tensor x = at::randn({4 * in, in}, at::kDouble).matmul(mixing.t());
  return x.t().matmul(x) / x.size(0);
}

// The program's argument at `index`, or `fallback` if there is none; 0 if it is not a number.
inline int64_t argument(int argc, char** argv, int index, int64_t fallback) {
  return argc > index ? std::strtoll(argv[index], nullptr, 10) : fallback;
}

}  // namespace ptq
