// Tensors that are where they are wanted.
#pragma once

#include <ATen/ATen.h>

namespace ptq {

// `t` on `device`. Even where it is there already, to() is a call of libtorch's.
inline at::Tensor on_device(const at::Tensor& t, at::Device device) {
  return t.device() == device ? t : t.to(device);
}

}  // namespace ptq
