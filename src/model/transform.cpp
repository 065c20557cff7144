#include "ptq/model/transform.h"

#include <algorithm>
#include <cmath>

#include "model/on_device.h"
#include "ptq/ops/ops.h"

namespace ptq {
namespace {

// x R on every block of B channels.
Tensor rotate_blocks(const Tensor& x, const Tensor& R) {
  const int64_t B = R.size(0);
  // ops::linear multiplies by the transpose of its weight.
  return ops::linear(x.reshape({-1, B}), R.t().contiguous()).reshape(x.sizes());
}

struct Apply {
  const Tensor& x;
  Tensor operator()(const Signs& signs) const { return x * on_device(signs.values, x.device()); }
  Tensor operator()(const Hadamard& H) const { return H.apply(x); }
  Tensor operator()(const BlockRotation& rotation) const {
    return rotate_blocks(x, on_device(rotation.R, x.device()));
  }
  Tensor operator()(const Permutation& permutation) const {
    return ops::gather_columns(x, on_device(permutation.index, x.device()));
  }
};

struct ApplyInverse {
  const Tensor& x;
  Tensor operator()(const Signs& signs) const { return x * on_device(signs.values, x.device()); }
  Tensor operator()(const Hadamard& H) const { return H.apply_inverse(x); }
  Tensor operator()(const BlockRotation& rotation) const {
    return rotate_blocks(x, on_device(rotation.R.t(), x.device()));
  }
  Tensor operator()(const Permutation& permutation) const {
    return ops::gather_columns(x, permutation.index.argsort().to(x.device()));
  }
};

struct Fits {
  int64_t channels;
  bool operator()(const Signs& signs) const { return signs.values.size(0) == channels; }
  bool operator()(const Hadamard& H) const { return channels % H.size == 0; }
  bool operator()(const BlockRotation& rotation) const { return channels % rotation.R.size(0) == 0; }
  bool operator()(const Permutation& permutation) const { return permutation.index.size(0) == channels; }
};

struct Text {
  std::string operator()(const Signs&) const { return "signs"; }
  std::string operator()(const Hadamard& H) const { return "hadamard(" + std::to_string(H.block) + ")"; }
  std::string operator()(const BlockRotation& rotation) const {
    return "rotation(" + std::to_string(rotation.R.size(0)) + ")";
  }
  std::string operator()(const Permutation&) const { return "permutation"; }
};

}  // namespace

std::string transform_text(const Transform& transform) {
  std::string text;
  for (const TransformOp& stage : transform.stages) {
    text += (text.empty() ? "" : ", ") + std::visit(Text{}, stage);
  }
  return text;
}

Tensor apply_op(const TransformOp& stage, const Tensor& x) {
  return std::visit(Apply{x}, stage);
}

Tensor Transform::apply(const Tensor& x) const {
  Tensor y = x;
  for (const TransformOp& stage : stages) y = apply_op(stage, y);
  return y;
}

Tensor Transform::apply_inverse(const Tensor& x) const {
  Tensor y = x;
  for (auto stage = stages.rbegin(); stage != stages.rend(); ++stage) y = std::visit(ApplyInverse{y}, *stage);
  return y;
}

bool Transform::fits(int64_t channels) const {
  return std::all_of(stages.begin(), stages.end(),
                     [&](const TransformOp& stage) { return std::visit(Fits{channels}, stage); });
}

double Transform::orthogonality_error() const {
  double largest = 0;
  for (const TransformOp& stage : stages) {
    const auto* rotation = std::get_if<BlockRotation>(&stage);
    if (rotation == nullptr) continue;
    const Tensor R = rotation->R.to(at::kDouble);
    const Tensor off = at::matmul(R, R.t()) - at::eye(R.size(0), R.options());
    const auto error = off.abs().max().item<double>();
    if (std::isnan(error)) return error;
    largest = std::max(largest, error);
  }
  return largest;
}

}  // namespace ptq
