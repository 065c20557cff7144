// What the DuQuant cases with a model share: the model's tensors in memory, and the names of sites.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "duquant_cases.h"
#include "ptq/base/error.h"
#include "ptq/checkpoint/checkpoint.h"
#include "ptq/model/model.h"
#include "ptq/step/step.h"

namespace ptq::golden {

// A site as the cases call it, and as the program does.
struct SiteName {
  const char* theirs;
  const char* ours;
};

inline constexpr SiteName kLinearSites[] = {
    {"qkv", "qkv.input"}, {"o", "o.input"}, {"gu", "gate_up.input"}, {"down", "down.input"}};

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
    weight.value = value.to(at::kFloat);
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

// Every value at most `tolerance` of itself away: stricter than Checks::near(), which measures by the
// largest.
inline void each_near(Checks& checks, const std::string& what, const Tensor& ours, const Tensor& expected,
                      double tolerance) {
  if (ours.sizes() != expected.sizes()) return checks.expect(false, what + ": another shape");
  const Tensor target = expected.to(at::kDouble);
  const Tensor off = (ours.to(at::kDouble) - target).abs();
  const auto bad = off.gt(target.abs() * tolerance).sum().item<int64_t>();
  checks.expect(bad == 0, what + ": " + std::to_string(bad) + " of " + std::to_string(ours.numel()) +
                              " differ, the worst by " + std::to_string(off.max().item<double>()));
}

inline std::unique_ptr<Step> make_step(const char* name, const Json& options) {
  JsonFields fields(options, name);
  return find_step(name, "golden").make(fields);
}

// Applies a step that looks at nothing but the block and its statistics.
inline void apply_step(const char* name, const Json& options, Block& block, Statistics& statistics) {
  const std::function<bool(const std::string&)> skip_none = [](const std::string&) { return false; };
  const Tensor no_rows;
  std::vector<Remark> remarks;
  StepContext context{statistics, no_rows, no_rows, skip_none, remarks};
  make_step(name, options)->apply(block, context);
}

// The options of DuQuant's smoothing, as the method gives them.
inline Json smooth_options(double alpha) {
  return {{"alpha", alpha}, {"floor", 1e-2}, {"columns", "first"}};
}

}  // namespace ptq::golden
