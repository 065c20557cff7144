// What processes of a run send each other.
#pragma once

#include <ATen/ATen.h>

#include <string>
#include <vector>

namespace ptq {

struct Parcel {
  // Arrive contiguous and on the CPU, one that is undefined as such.
  std::vector<at::Tensor> tensors;
  std::string text;

  void add(const at::Tensor& tensor) { tensors.push_back(tensor); }
  // As a tensor: the numbers, exactly.
  void add(const std::vector<double>& numbers);
  void add(const std::vector<float>& numbers);
  void add(const std::vector<int64_t>& numbers);
};

// Takes a parcel apart in the order in which it was filled. `parcel` must outlive it.
class ParcelReader {
 public:
  explicit ParcelReader(const Parcel& parcel) : parcel_(parcel) {}

  at::Tensor tensor();
  std::vector<double> doubles();
  std::vector<float> floats();
  std::vector<int64_t> integers();

 private:
  const Parcel& parcel_;
  size_t next_ = 0;
};

}  // namespace ptq
