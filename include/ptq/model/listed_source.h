// A model's tensors without their values.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "ptq/model/weight.h"

namespace ptq {

// Names, shapes and configuration of another source. What is read has the right shape and no value (it lies
// on the meta device), and is remembered.
class ListedSource : public WeightSource {
 public:
  struct Asked {
    std::vector<int64_t> shape;
    Role role = Role::kLinear;
  };

  // `config` must outlive it.
  ListedSource(const Json& config, std::map<std::string, TensorInfo> infos)
      : config_(config), infos_(std::move(infos)) {}
  // `source` must outlive it.
  explicit ListedSource(const WeightSource& source);

  const TensorInfo* find(const std::string& name) const override;
  // Throws Error if it is missing or its shape differs from `shape`.
  Weight read(const std::string& name, Role role, const std::vector<int64_t>& shape) const override;
  std::vector<std::string> names() const override;
  const Json& config() const override { return config_; }
  bool tied(const std::string&, const std::string&) const override { return false; }
  at::Device device() const override { return at::kMeta; }

  // What was read so far, by name.
  const std::map<std::string, Asked>& asked() const { return asked_; }

 private:
  const Json& config_;
  std::map<std::string, TensorInfo> infos_;
  mutable std::map<std::string, Asked> asked_;
};

}  // namespace ptq
