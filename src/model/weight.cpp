#include "ptq/model/weight.h"

#include <algorithm>

#include "model/reading.h"
#include "ptq/base/error.h"
#include "ptq/base/memory.h"
#include "ptq/ops/ops.h"

namespace ptq {

const char* role_name(Role role) {
  switch (role) {
    case Role::kEmbedding:
      return "embedding";
    case Role::kHead:
      return "head";
    case Role::kNorm:
      return "norm";
    case Role::kLinear:
      return "linear";
    case Role::kBias:
      return "bias";
    case Role::kPositions:
      return "positions";
    case Role::kConv:
      return "conv";
    case Role::kDecay:
      return "decay";
    case Role::kSkip:
      return "skip";
  }
  return "?";
}

const Tensor& Weight::tensor() const {
  const QuantizedTensor* codes = quantized();
  return codes != nullptr ? codes->codes : std::get<Tensor>(data_);
}

Tensor Weight::values() const {
  if (kept_values_.defined()) return kept_values_;
  const QuantizedTensor* codes = quantized();
  return codes != nullptr ? dequantize(*codes) : std::get<Tensor>(data_).to(at::kFloat);
}

StoredWeight Weight::as_stored() const {
  const QuantizedTensor* codes = quantized();
  return codes != nullptr ? StoredWeight(*codes) : StoredWeight(std::get<Tensor>(data_));
}

void Weight::keep_values() {
  if (quantized() != nullptr || tensor().scalar_type() != at::kFloat) kept_values_ = values();
}

void Weight::set(Tensor floats) {
  data_ = std::move(floats);
  kept_values_ = Tensor();
}

void Weight::set(QuantizedTensor codes) {
  data_ = std::move(codes);
  kept_values_ = Tensor();
}

void Weight::release() {
  set(at::empty(sizes(), at::TensorOptions().dtype(at::kFloat).device(at::kMeta)));
}

void Weight::round_to_stored_dtype() {
  if (quantized() == nullptr) set(values().to(stored).to(at::kFloat));
}

at::ScalarType scalar_type(DType dtype, const std::string& tensor_name) {
  switch (dtype) {
    case DType::kF64:
      return at::kDouble;
    case DType::kF32:
      return at::kFloat;
    case DType::kF16:
      return at::kHalf;
    case DType::kBF16:
      return at::kBFloat16;
    case DType::kI64:
      return at::kLong;
    case DType::kI32:
      return at::kInt;
    case DType::kI16:
      return at::kShort;
    case DType::kI8:
      return at::kChar;
    case DType::kU8:
      return at::kByte;
    case DType::kBool:
      return at::kBool;
    default:
      throw Error(tensor_name, std::string("the dtype ") + dtype_name(dtype) + " is not supported here");
  }
}

Tensor as_tensor(const TensorBytes& bytes) {
  const at::ScalarType type = scalar_type(bytes.info.dtype, bytes.info.name);
  if (bytes.bytes.empty()) return at::empty(bytes.info.shape, type);
  // from_blob wants a mutable pointer; the mapping is private, so even a write would not reach the file.
  auto* data = const_cast<std::byte*>(bytes.bytes.data());
  return at::from_blob(
      data, bytes.info.shape, [owner = bytes.owner](void*) {}, at::TensorOptions().dtype(type));
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

namespace {

constexpr int64_t kCheckedAtOnce = int64_t{1} << 20;  // values

// What a weight is written as while it is float. Of float64 no more is left than the float32 of `value`.
at::ScalarType stored_type(at::ScalarType source) {
  return source == at::kDouble ? at::kFloat : source;
}

// Throws Error if a value is NaN or infinite. Wide values are made for a few rows at a time.
void expect_finite_weight(const Tensor& value, const std::string& name) {
  if (value.numel() == 0) return;
  const Tensor matrix = value.reshape({value.size(0), -1});
  const int64_t rows = std::max<int64_t>(1, kCheckedAtOnce / matrix.size(1));
  int64_t bad = 0;
  for (int64_t first = 0; first < matrix.size(0); first += rows) {
    const Tensor part =
        matrix.narrow(0, first, std::min(rows, matrix.size(0) - first)).to(at::kFloat).contiguous();
    // The largest magnitude shows NaN as well as infinity, in one pass; only then are they counted.
    if (ops::all_finite(part)) continue;
    bad += (part.numel() - at::isfinite(part).sum()).item<int64_t>();
  }
  if (bad == 0) return;
  throw Error(name,
              std::to_string(bad) + " of " + std::to_string(value.numel()) + " values are NaN or infinite",
              "the checkpoint is damaged or training diverged; `quantize inspect` lists every such tensor");
}

// The mapped tensor itself; its pages leave memory with it.
Tensor mapped_tensor(const TensorBytes& bytes) {
  const Tensor borrowed = as_tensor(bytes);
  if (bytes.bytes.empty()) return borrowed;
  const auto drop = [bytes](void* data) { drop_pages(data, bytes.bytes.size()); };
  return at::from_blob(borrowed.data_ptr(), bytes.info.shape, drop, borrowed.options());
}

}  // namespace

bool FloatSource::gives_stored(Role role, DType dtype) const {
  const bool large = role == Role::kLinear || role == Role::kEmbedding || role == Role::kHead;
  return floats_ == Floats::kStored && large && device_.is_cpu() &&
         (dtype == DType::kF16 || dtype == DType::kBF16);
}

Weight FloatSource::read(const std::string& name, Role role, const std::vector<int64_t>& shape) const {
  const TensorInfo* info = checkpoint_.find(name);
  if (info == nullptr) throw missing_tensor(name);
  if (info->shape != shape) {
    throw Error(name, "has shape " + shape_text(info->shape) + " where the model needs " + shape_text(shape));
  }
  if (info->dtype != DType::kF16 && info->dtype != DType::kBF16 && info->dtype != DType::kF32 &&
      info->dtype != DType::kF64) {
    throw Error(name, std::string("has dtype ") + dtype_name(info->dtype) +
                          "; weights must be F64, F32, F16 or BF16");
  }
  if (device_.is_meta()) {
    const auto options = at::TensorOptions().dtype(at::kFloat).device(device_);
    return {name, role, at::empty(shape, options), stored_type(scalar_type(info->dtype, name))};
  }
  if (gives_stored(role, info->dtype)) {
    const Tensor mapped = mapped_tensor(checkpoint_.read(name));
    expect_finite_weight(mapped, name);
    return {name, role, mapped, mapped.scalar_type()};
  }
  const Tensor stored = as_tensor(checkpoint_.read(name));
  // copy=true: the value must not keep the mapping alive, nor be a view of it.
  const Tensor value =
      stored.to(at::TensorOptions().dtype(at::kFloat).device(device_), /*non_blocking=*/false, /*copy=*/true);
  checkpoint_.drop(name);
  expect_finite_weight(value, name);
  return {name, role, value, stored_type(stored.scalar_type())};
}

std::vector<std::string> FloatSource::names() const {
  std::vector<std::string> names;
  for (const TensorInfo& info : checkpoint_.tensors()) names.push_back(info.name);
  return names;
}

bool FloatSource::tied(const std::string& a, const std::string& b) const {
  for (const auto& group : checkpoint_.ties()) {
    const auto has = [&group](const std::string& name) {
      return std::find(group.begin(), group.end(), name) != group.end();
    };
    if (has(a) && has(b)) return true;
  }
  return false;
}

}  // namespace ptq
