#include "export/coded_source.h"

#include <algorithm>
#include <set>

#include "ptq/base/error.h"
#include "ptq/model/listed_source.h"

namespace ptq {

std::string without(const std::string& name, const std::string& end) {
  return name.ends_with(end) ? name.substr(0, name.size() - end.size()) : "";
}

void expect_form(const TensorInfo& info, DType dtype, const std::vector<int64_t>& shape) {
  if (info.dtype == dtype && info.shape == shape) return;
  throw Error(info.name, std::string("is ") + dtype_name(info.dtype) + " " + shape_text(info.shape) +
                             " where the scheme needs " + dtype_name(dtype) + " " + shape_text(shape));
}

Tensor read_scales(const Checkpoint& checkpoint, const std::string& name, const std::vector<int64_t>& shape,
                   bool zero_allowed) {
  const TensorBytes bytes = checkpoint.read(name);
  const DType dtype = bytes.info.dtype;
  const bool is_float = dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
  const bool one = shape == std::vector<int64_t>{1} && bytes.info.shape.empty();
  if (!is_float || (bytes.info.shape != shape && !one)) {
    throw Error(name, std::string("is ") + dtype_name(dtype) + " " + shape_text(bytes.info.shape) +
                          " where the scheme needs floats " + shape_text(shape));
  }
  const Tensor values = as_tensor(bytes).reshape(shape).to(at::kFloat, false, /*copy=*/true);
  const auto bad = values.numel() -
                   (at::isfinite(values) & (zero_allowed ? values >= 0 : values > 0)).sum().item<int64_t>();
  if (bad != 0) {
    throw Error(name, std::to_string(bad) + " of " + std::to_string(values.numel()) + " scales are not " +
                          (zero_allowed ? "finite, or negative" : "positive and finite"));
  }
  checkpoint.drop(name);
  return values;
}

CodedSource::CodedSource(const Checkpoint& checkpoint, at::Device device, std::vector<std::string> parts)
    : checkpoint_(checkpoint), floats_(checkpoint, device, Floats::kStored), parts_(std::move(parts)) {}

void CodedSource::add(const std::string& linear, const std::vector<int64_t>& shape,
                      const WeightScheme& scheme) {
  const std::string name = linear + kWeight;
  weights_[name] = {name, DType::kI8, shape};
  in_codes_[linear] = scheme;
}

void CodedSource::add_floats() {
  for (const TensorInfo& info : checkpoint_.tensors()) {
    const bool is_part = std::any_of(parts_.begin(), parts_.end(), [&](const std::string& part) {
      return in_codes_.contains(without(info.name, part));
    });
    if (!is_part) weights_.emplace(info.name, info);
  }
}

const TensorInfo& CodedSource::part(const std::string& linear, const char* part) const {
  const TensorInfo* info = checkpoint_.find(linear + part);
  if (info == nullptr) throw Error(linear + part, "the tensor is missing");
  return *info;
}

const TensorInfo* CodedSource::find(const std::string& name) const {
  const auto found = weights_.find(name);
  return found == weights_.end() ? nullptr : &found->second;
}

std::vector<std::string> CodedSource::names() const {
  std::vector<std::string> names;
  for (const auto& [name, info] : weights_) names.push_back(name);
  return names;
}

Weight CodedSource::read(const std::string& name, Role role, const std::vector<int64_t>& shape) const {
  const std::string linear = without(name, kWeight);
  const auto found = in_codes_.find(linear);
  if (found == in_codes_.end()) return floats_.read(name, role, shape);
  const TensorInfo& info = weights_.at(name);
  if (info.shape != shape)
    throw Error(name, "has shape " + shape_text(info.shape) + " where the model needs " + shape_text(shape));
  const WeightScheme& scheme = found->second;
  QuantizedTensor q;
  if (device().is_meta()) {
    const std::vector<int64_t> scales = scheme.scale_shape(shape.at(0), shape.at(1));
    const at::TensorOptions on_meta = at::TensorOptions().device(at::kMeta);
    q.codes = at::empty(shape, on_meta.dtype(at::kChar));
    q.scale = at::empty(scales, on_meta.dtype(at::kFloat));
    if (!scheme.symmetric) q.zero = at::empty(scales, on_meta.dtype(at::kChar));
  } else {
    q = read_codes(linear, scheme, shape);
    q.codes = q.codes.to(device());
    q.scale = q.scale.to(device());
    if (q.zero.defined()) q.zero = q.zero.to(device());
  }
  q.scheme = scheme;
  Weight weight;
  weight.name = name;
  weight.role = role;
  weight.set(std::move(q));
  return weight;
}

void CodedSource::check_complete() const {
  if (in_codes_.empty()) {
    throw Error(checkpoint_.path(),
                "says in quantization_config that it is quantized, and no weight is in codes",
                "--config with the configuration of the float model");
  }
  const ListedSource shapes(*this);
  const std::unique_ptr<Model> model = find_architecture(shapes, checkpoint_.path()).make(shapes);
  const auto expect_claimed = [this](const std::string& linear) {
    if (in_codes_.contains(linear) || !claims(linear)) return;
    throw Error(linear, "is stored in float, but quantization_config says that it is in codes",
                "an entry of \"ignore\" if that is meant");
  };
  std::set<std::string> unread;
  for (const auto& [linear, scheme] : in_codes_) unread.insert(linear);
  for (int64_t i = 0; i < model->num_blocks(); ++i) {
    const std::unique_ptr<Block> block = model->load_block(i);
    for (const Linear* linear : block->linears()) {
      unread.erase(linear->name);
      expect_claimed(linear->name);
    }
  }
  for (const Weight* weight : model->outer_weights()) {
    if (weight->role == Role::kHead) expect_claimed(without(weight->name, kWeight));
  }
  if (unread.empty()) return;
  throw Error(*unread.begin() + kWeight, "is stored in codes, and is no linear of a block");
}

OpenModel open_coded(std::unique_ptr<Checkpoint> checkpoint, std::unique_ptr<CodedSource> source,
                     const Model::OnLoad& on_load) {
  source->check_complete();
  const std::string path = checkpoint->path();
  expect_all_read(find_architecture(*source, path), *source, path);
  return assemble_model(std::move(checkpoint), std::move(source), /*quantized=*/true, on_load);
}

}  // namespace ptq
