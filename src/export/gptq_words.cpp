#include "export/gptq_words.h"

#include <array>

#include "export/packed_words.h"
#include "ptq/base/error.h"

namespace ptq {
namespace {

// Nibble i of a word of AWQ is column kAwqOrder[i] of eight.
constexpr std::array<int64_t, 8> kAwqOrder = {0, 2, 4, 6, 1, 3, 5, 7};

// [n, columns] with the columns of each eight in the order given.
Tensor reordered(const Tensor& matrix, const std::array<int64_t, 8>& order) {
  const Tensor index = at::tensor(at::ArrayRef<int64_t>(order.data(), order.size()), at::kLong);
  return matrix.unflatten(1, {-1, 8}).index_select(2, index).flatten(1);
}

std::array<int64_t, 8> inverse_order() {
  std::array<int64_t, 8> inverse{};
  for (size_t i = 0; i < kAwqOrder.size(); ++i)
    inverse[static_cast<size_t>(kAwqOrder[i])] = static_cast<int64_t>(i);
  return inverse;
}

// [n, out] -> words along out.
Tensor pack_along_out(const Tensor& codes, int bits, GptqLayout layout) {
  return pack_words(layout == GptqLayout::kAwq ? reordered(codes, kAwqOrder) : codes, bits);
}

Tensor unpack_along_out(const Tensor& words, int64_t out, int bits, GptqLayout layout) {
  const Tensor codes = unpack_words(words, out, bits);
  return layout == GptqLayout::kAwq ? reordered(codes, inverse_order()) : codes;
}

}  // namespace

Tensor pack_qweight(const Tensor& codes, int bits, GptqLayout layout) {
  if (layout == GptqLayout::kAwq) return pack_along_out(codes.t().contiguous(), bits, layout);
  return pack_words(codes, bits).t().contiguous();
}

Tensor unpack_qweight(const Tensor& words, const std::vector<int64_t>& shape, int bits, GptqLayout layout) {
  if (layout == GptqLayout::kAwq) return unpack_along_out(words, shape.at(0), bits, layout).t().contiguous();
  return unpack_words(words.t(), shape.at(1), bits);
}

Tensor pack_qzeros(const Tensor& zeros, int bits, GptqLayout layout) {
  const Tensor rows = zeros.t().contiguous();
  return pack_along_out(layout == GptqLayout::kGptqV1 ? rows - 1 : rows, bits, layout);
}

Tensor unpack_qzeros(const Tensor& words, const std::vector<int64_t>& shape, int bits, GptqLayout layout,
                     const std::string& name) {
  Tensor rows = unpack_along_out(words, shape.at(0), bits, layout);
  if (layout == GptqLayout::kGptqV1) {
    const int64_t high = (int64_t{1} << (bits - 1)) - 1;
    if ((rows == high).any().item<bool>()) {
      throw Error(name,
                  "has fields of " + std::to_string((1 << bits) - 1) +
                      ", which stand for a zero point of 0 or of " + std::to_string(1 << bits) +
                      ": loaders differ, because checkpoint_format \"gptq\" stores zero points less 1",
                  "a checkpoint in gptq_v2 or AWQ");
    }
    rows = rows + 1;
  }
  return rows.t().contiguous();
}

}  // namespace ptq
