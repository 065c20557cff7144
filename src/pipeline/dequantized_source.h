// A model that another program has quantized, as the float checkpoint that a run begins with.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ptq/model/weight.h"

namespace ptq {

// Weights in codes are the values that the codes stand for, stored in float32, which holds them exactly; the
// others are as they are. The configuration is without its quantization_config.
class DequantizedSource : public WeightSource {
 public:
  // What `coded` reads from must outlive it.
  explicit DequantizedSource(std::unique_ptr<WeightSource> coded);

  const TensorInfo* find(const std::string& name) const override { return coded_->find(name); }
  Weight read(const std::string& name, Role role, const std::vector<int64_t>& shape) const override;
  std::vector<std::string> names() const override { return coded_->names(); }
  const Json& config() const override { return config_; }
  bool tied(const std::string& a, const std::string& b) const override { return coded_->tied(a, b); }
  at::Device device() const override { return coded_->device(); }

 private:
  std::unique_ptr<WeightSource> coded_;
  Json config_;
};

}  // namespace ptq
