// The tensors of a case, and a model of which they are the weights.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ptq/base/error.h"
#include "ptq/checkpoint/checkpoint.h"
#include "ptq/model/model.h"

namespace ptq::golden {

// Weights that a case holds under other names, or among other tensors.
class MemorySource : public WeightSource {
 public:
  MemorySource(std::map<std::string, Tensor> tensors, Json config)
      : tensors_(std::move(tensors)), config_(std::move(config)) {
    for (const auto& [name, tensor] : tensors_) infos_[name] = {name, DType::kF32, tensor.sizes().vec()};
  }

  const TensorInfo* find(const std::string& name) const override {
    const auto found = infos_.find(name);
    return found == infos_.end() ? nullptr : &found->second;
  }
  Weight read(const std::string& name, Role role, const std::vector<int64_t>& shape) const override {
    const Tensor& value = tensors_.at(name);
    if (value.sizes() != shape) throw Error(name, "has shape " + shape_text(value.sizes().vec()));
    Weight weight;
    weight.name = name;
    weight.role = role;
    weight.set(value.to(at::kFloat));
    weight.stored = at::kFloat;
    return weight;
  }
  std::vector<std::string> names() const override {
    std::vector<std::string> names;
    for (const auto& [name, info] : infos_) names.push_back(name);
    return names;
  }
  const Json& config() const override { return config_; }
  bool tied(const std::string&, const std::string&) const override { return false; }
  at::Device device() const override { return at::kCPU; }

 private:
  std::map<std::string, Tensor> tensors_;
  std::map<std::string, TensorInfo> infos_;
  Json config_;
};

// The tensors of a case.
class CaseTensors {
 public:
  explicit CaseTensors(std::filesystem::path json_path)
      : file_(open_checkpoint(json_path.replace_extension(".safetensors").string())) {}

  bool has(const std::string& name) const { return file_->find(name) != nullptr; }
  Tensor operator[](const std::string& name) const { return as_tensor(file_->read(name)).clone(); }
  const Checkpoint& file() const { return *file_; }

 private:
  std::unique_ptr<Checkpoint> file_;
};

}  // namespace ptq::golden
