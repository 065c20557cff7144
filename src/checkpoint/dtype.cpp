#include <array>

#include "ptq/checkpoint/checkpoint.h"

namespace ptq {
namespace {

struct DTypeRow {
  DType dtype;
  const char* name;
  int64_t bytes;
};

// In the order of the enumeration.
constexpr std::array<DTypeRow, 15> kDTypes = {{
    {DType::kF64, "F64", 8},
    {DType::kF32, "F32", 4},
    {DType::kF16, "F16", 2},
    {DType::kBF16, "BF16", 2},
    {DType::kF8E4M3, "F8_E4M3", 1},
    {DType::kF8E5M2, "F8_E5M2", 1},
    {DType::kI64, "I64", 8},
    {DType::kI32, "I32", 4},
    {DType::kI16, "I16", 2},
    {DType::kI8, "I8", 1},
    {DType::kU64, "U64", 8},
    {DType::kU32, "U32", 4},
    {DType::kU16, "U16", 2},
    {DType::kU8, "U8", 1},
    {DType::kBool, "BOOL", 1},
}};

constexpr bool rows_follow_the_enumeration() {
  for (size_t i = 0; i < kDTypes.size(); ++i) {
    if (static_cast<size_t>(kDTypes[i].dtype) != i) return false;
  }
  return true;
}
static_assert(rows_follow_the_enumeration());

const DTypeRow& row(DType dtype) {
  return kDTypes[static_cast<size_t>(dtype)];
}

}  // namespace

const char* dtype_name(DType dtype) {
  return row(dtype).name;
}

int64_t dtype_bytes(DType dtype) {
  return row(dtype).bytes;
}

std::optional<DType> dtype_from_name(std::string_view name) {
  for (const DTypeRow& candidate : kDTypes) {
    if (name == candidate.name) return candidate.dtype;
  }
  return std::nullopt;
}

int64_t TensorInfo::num_elements() const {
  int64_t elements = 1;
  for (const int64_t size : shape) elements *= size;
  return elements;
}

int64_t TensorInfo::bytes() const {
  return num_elements() * dtype_bytes(dtype);
}

}  // namespace ptq
