#include "ptq/comm/parcel.h"

namespace ptq {
namespace {

template <typename T>
at::Tensor tensor_of(const std::vector<T>& numbers) {
  const at::Tensor tensor = at::empty({static_cast<int64_t>(numbers.size())},
                                      at::TensorOptions().dtype(c10::CppTypeToScalarType<T>()));
  std::copy(numbers.begin(), numbers.end(), tensor.mutable_data_ptr<T>());
  return tensor;
}

template <typename T>
std::vector<T> numbers_of(const at::Tensor& tensor) {
  const T* const data = tensor.const_data_ptr<T>();
  return {data, data + tensor.numel()};
}

}  // namespace

void Parcel::add(const std::vector<double>& numbers) {
  tensors.push_back(tensor_of(numbers));
}
void Parcel::add(const std::vector<float>& numbers) {
  tensors.push_back(tensor_of(numbers));
}
void Parcel::add(const std::vector<int64_t>& numbers) {
  tensors.push_back(tensor_of(numbers));
}

at::Tensor ParcelReader::tensor() {
  TORCH_CHECK(next_ < parcel_.tensors.size(), "a parcel of ", parcel_.tensors.size(), " tensors has no more");
  return parcel_.tensors[next_++];
}
std::vector<double> ParcelReader::doubles() {
  return numbers_of<double>(tensor());
}
std::vector<float> ParcelReader::floats() {
  return numbers_of<float>(tensor());
}
std::vector<int64_t> ParcelReader::integers() {
  return numbers_of<int64_t>(tensor());
}

}  // namespace ptq
