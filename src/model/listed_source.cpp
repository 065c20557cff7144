#include "ptq/model/listed_source.h"

#include "model/reading.h"
#include "ptq/base/error.h"

namespace ptq {

ListedSource::ListedSource(const WeightSource& source) : config_(source.config()) {
  for (const std::string& name : source.names()) infos_[name] = *source.find(name);
}

const TensorInfo* ListedSource::find(const std::string& name) const {
  const auto found = infos_.find(name);
  return found == infos_.end() ? nullptr : &found->second;
}

Weight ListedSource::read(const std::string& name, Role role, const std::vector<int64_t>& shape) const {
  const TensorInfo* info = find(name);
  if (info == nullptr) throw missing_tensor(name);
  if (info->shape != shape) {
    throw Error(name, "has shape " + shape_text(info->shape) + " where the model needs " + shape_text(shape));
  }
  asked_[name] = {shape, role};
  return {name, role, at::empty(shape, at::TensorOptions().dtype(at::kFloat).device(at::kMeta)), at::kFloat};
}

std::vector<std::string> ListedSource::names() const {
  std::vector<std::string> names;
  for (const auto& [name, info] : infos_) names.push_back(name);
  return names;
}

}  // namespace ptq
