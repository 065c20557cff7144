#include "export/packed_words.h"

#include <bit>

#include "ptq/codec/packing.h"

namespace ptq {
namespace {

static_assert(std::endian::native == std::endian::little, "words are viewed as bytes");

constexpr int64_t kWordBytes = 4;

WeightScheme integers_of(int bits) {
  WeightScheme scheme;
  scheme.bits = bits;
  return scheme;
}

}  // namespace

int64_t words_in_row(int64_t columns, int bits) {
  return (columns * bits + 31) / 32;
}

// The stream is that of pack_codes, whose rows end at a byte.
Tensor pack_words(const Tensor& codes, int bits) {
  const Tensor bytes = pack_codes(codes, integers_of(bits));
  const int64_t missing = words_in_row(codes.size(1), bits) * kWordBytes - bytes.size(1);
  return at::constant_pad_nd(bytes, {0, missing}).contiguous().view(at::kInt);
}

Tensor unpack_words(const Tensor& words, int64_t columns, int bits) {
  const Tensor bytes = words.contiguous().view(at::kByte);
  return unpack_codes(bytes.slice(1, 0, packed_row_bytes(columns, bits)), columns, integers_of(bits));
}

}  // namespace ptq
