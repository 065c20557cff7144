// What every format is reduced to: byte ranges of a file (storages) and tensors that lie in them.
//
// A parser fills a TensorFile and proves by add_tensor() that no element lies outside its storage; whoever
// reads a tensor afterwards relies on it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ptq/checkpoint/checkpoint.h"

namespace ptq {

// More than any model has; they bound what a hostile file can make us allocate.
constexpr size_t kMaxTensors = 250'000;
constexpr size_t kMaxDims = 64;
constexpr size_t kMaxTotalDims = 4'000'000;
constexpr size_t kMaxNameBytes = 4096;
constexpr size_t kMaxTotalNameBytes = size_t{100} << 20;
// Elements that several indices share (stride 0) are copied out; this is the most that may cost.
constexpr int64_t kMaxRepeatedBytes = int64_t{64} << 20;

// The product of `shape`; nullopt if a size is negative, or if the product of the sizes other than 0 times
// `item_bytes` does not fit an int64.
std::optional<int64_t> checked_elements(const std::vector<int64_t>& shape, int64_t item_bytes);

struct Storage {
  std::string name;  // for messages
  uint64_t offset = 0;
  uint64_t bytes = 0;
  std::optional<uint32_t> crc32;
};

struct StoredTensor {
  TensorInfo info;
  uint32_t storage = 0;          // index into TensorFile::storages
  int64_t first_element = 0;     // counted in elements of the tensor's type
  std::vector<int64_t> strides;  // in elements; empty if the tensor is contiguous in C order
};

class TensorFile {
 public:
  explicit TensorFile(std::string path) : path_(std::move(path)) {}

  // Returns the index. REQUIRES: the range lies inside the file.
  uint32_t add_storage(Storage storage);
  // Takes a tensor with strides given or empty. Throws Error unless all its elements lie in its storage, all
  // products fit, and the limits above hold. Strides that are those of C order are removed.
  void add_tensor(StoredTensor tensor);
  // Sorts the tensors by name. Throws Error if two have the same.
  void finish();

  const std::string& path() const { return path_; }
  std::vector<Storage> storages;
  std::vector<StoredTensor> tensors;
  std::vector<std::string> notes;
  bool is_training_checkpoint = false;  // the tensors are one entry of several

 private:
  void count(const StoredTensor& tensor);

  std::string path_;
  size_t total_dims_ = 0;
  size_t total_name_bytes_ = 0;
};

}  // namespace ptq
