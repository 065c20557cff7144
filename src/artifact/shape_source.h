// An artifact's weights as shapes alone: enough to make the model and see how weights and sites hang
// together.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "ptq/base/error.h"
#include "ptq/model/weight.h"

namespace ptq {

// Weights of the right shapes that take no memory: one zero, repeated. Remembers what was asked for.
class ShapeSource : public WeightSource {
 public:
  // `inner` must outlive it.
  explicit ShapeSource(const WeightSource& inner) : inner_(inner) {}
  const TensorInfo* find(const std::string& name) const override { return inner_.find(name); }
  Weight read(const std::string& name, Role role, const std::vector<int64_t>& shape) const override {
    const TensorInfo* info = inner_.find(name);
    if (info == nullptr) throw Error(name, "the tensor is missing");
    if (info->shape != shape) {
      throw Error(name,
                  "has shape " + shape_text(info->shape) + " where the model needs " + shape_text(shape));
    }
    asked_.insert(name);
    return {name, role, at::zeros({1}).expand(shape), at::kFloat, {}};
  }
  std::vector<std::string> names() const override { return inner_.names(); }
  const Json& config() const override { return inner_.config(); }
  bool tied(const std::string& a, const std::string& b) const override { return inner_.tied(a, b); }
  at::Device device() const override { return at::kCPU; }

  const std::set<std::string>& asked() const { return asked_; }

 private:
  const WeightSource& inner_;
  mutable std::set<std::string> asked_;
};

}  // namespace ptq
