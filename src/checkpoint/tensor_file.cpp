#include "checkpoint/tensor_file.h"

#include <algorithm>

#include "checkpoint/bytes.h"
#include "ptq/base/error.h"

namespace ptq {
namespace {

bool is_c_order(const std::vector<int64_t>& shape, const std::vector<int64_t>& strides) {
  int64_t expected = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    if (shape[i] != 1 && strides[i] != expected) return false;
    expected *= shape[i];
  }
  return true;
}

// One past the largest element index; nullopt if it does not fit or something is negative.
// REQUIRES: no size is 0.
std::optional<int64_t> end_element(const StoredTensor& tensor, int64_t elements) {
  int64_t end = 0;
  if (tensor.first_element < 0) return std::nullopt;
  if (tensor.strides.empty()) {
    if (__builtin_add_overflow(tensor.first_element, elements, &end)) return std::nullopt;
    return end;
  }
  if (__builtin_add_overflow(tensor.first_element, 1, &end)) return std::nullopt;
  for (size_t i = 0; i < tensor.strides.size(); ++i) {
    int64_t reach = 0;
    if (tensor.strides[i] < 0) return std::nullopt;
    if (__builtin_mul_overflow(tensor.info.shape[i] - 1, tensor.strides[i], &reach)) return std::nullopt;
    if (__builtin_add_overflow(end, reach, &end)) return std::nullopt;
  }
  return end;
}

}  // namespace

std::optional<int64_t> checked_elements(const std::vector<int64_t>& shape, int64_t item_bytes) {
  int64_t product = 1;
  int64_t bytes = item_bytes;
  bool empty = false;
  for (const int64_t size : shape) {
    if (size < 0) return std::nullopt;
    empty |= size == 0;
    if (size != 0 && __builtin_mul_overflow(bytes, size, &bytes)) return std::nullopt;
    if (size != 0) product *= size;
  }
  return empty ? 0 : product;
}

uint32_t TensorFile::add_storage(Storage storage) {
  storages.push_back(std::move(storage));
  return static_cast<uint32_t>(storages.size() - 1);
}

void TensorFile::count(const StoredTensor& tensor) {
  const auto check = [&](size_t found, size_t limit, const char* what) {
    if (found <= limit) return;
    throw Error(path_, "at least " + std::to_string(found) + " " + what + "; at most " +
                           std::to_string(limit) + " are read");
  };
  total_dims_ += tensor.info.shape.size();
  total_name_bytes_ += tensor.info.name.size();
  check(tensors.size() + 1, kMaxTensors, "tensors");
  check(tensor.info.name.size(), kMaxNameBytes, "bytes in a tensor's name");
  check(total_name_bytes_, kMaxTotalNameBytes, "bytes in the tensors' names");
  check(tensor.info.shape.size(), kMaxDims, "dimensions in a tensor");
  check(total_dims_, kMaxTotalDims, "dimensions in all tensors");
}

void TensorFile::add_tensor(StoredTensor tensor) {
  count(tensor);
  const auto where = [&] { return path_ + ": tensor \"" + printable(tensor.info.name) + "\""; };
  const int64_t item_bytes = dtype_bytes(tensor.info.dtype);
  if (!tensor.strides.empty() && tensor.strides.size() != tensor.info.shape.size()) {
    throw Error(where(), std::to_string(tensor.info.shape.size()) + " sizes but " +
                             std::to_string(tensor.strides.size()) + " strides");
  }
  const auto elements = checked_elements(tensor.info.shape, item_bytes);
  if (!elements) throw Error(where(), "its shape has a negative size or more than 2^63 bytes");
  if (*elements == 0) {
    tensor.strides.clear();
    tensor.first_element = 0;
  } else {
    const Storage& storage = storages[tensor.storage];
    const auto end = end_element(tensor, *elements);
    const uint64_t capacity = storage.bytes / static_cast<uint64_t>(item_bytes);
    if (!end || static_cast<uint64_t>(*end) > capacity) {
      throw Error(where(), "its elements reach to " +
                               (end ? std::to_string(*end) : std::string("outside all bounds")) +
                               ", its storage has " + std::to_string(capacity));
    }
    if (!tensor.strides.empty() && is_c_order(tensor.info.shape, tensor.strides)) tensor.strides.clear();
    const int64_t bytes = *elements * item_bytes;
    if (static_cast<uint64_t>(bytes) > storage.bytes && bytes > kMaxRepeatedBytes) {
      throw Error(where(),
                  "it repeats " + std::to_string(storage.bytes) + " stored bytes to " +
                      std::to_string(bytes) + "; at most " + std::to_string(kMaxRepeatedBytes) + " are read",
                  "save tensor.contiguous()");
    }
  }
  tensor.strides.shrink_to_fit();
  tensors.push_back(std::move(tensor));
}

void TensorFile::finish() {
  const auto name = [](const StoredTensor& tensor) -> const std::string& { return tensor.info.name; };
  std::ranges::sort(tensors, {}, name);
  const auto twice = std::ranges::adjacent_find(tensors, {}, name);
  if (twice != tensors.end()) {
    throw Error(path_, "the tensor \"" + printable(twice->info.name) + "\" occurs twice");
  }
}

}  // namespace ptq
