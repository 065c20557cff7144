// How the CPU's ops take tensors and split work.
#pragma once

#include <ATen/ATen.h>

namespace ptq::ops::cpu {

constexpr int64_t kValues = 1 << 15;  // in one piece of work

// The tensor itself if rows of its last dimension are contiguous, else a copy.
inline at::Tensor with_contiguous_rows(const at::Tensor& x) {
  return x.stride(-1) == 1 || x.size(-1) == 1 ? x : x.contiguous();
}

}  // namespace ptq::ops::cpu
