// Codes in 32-bit words, as compressed-tensors packs them.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

namespace ptq {

// Words of one packed row of `columns` codes.
int64_t words_in_row(int64_t columns, int bits);

// int8 codes [rows, columns], signed codes of `bits` bits, 2 to 8 -> int32 [rows, words_in_row()]. A row is a
// little-endian stream of fields of `bits` bits that hold code + 2^(bits - 1), padded with zero bits; fields
// of 3, 5, 6 and 7 bits lie across words. It is compressed_tensors' pack_to_int32.
at::Tensor pack_words(const at::Tensor& codes, int bits);

// The inverse.
at::Tensor unpack_words(const at::Tensor& words, int64_t columns, int bits);

}  // namespace ptq
