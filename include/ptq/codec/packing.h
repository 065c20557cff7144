// Codes of few bits as bytes: the layout on disk.
#pragma once

#include <ATen/ATen.h>

#include "ptq/codec/scheme.h"

namespace ptq {

using at::Tensor;

// Bytes of one packed row of `in` codes.
int64_t packed_row_bytes(int64_t in, int bits);

// int8 codes [out, in] -> uint8 [out, packed_row_bytes(in, bits)]. A row is a little-endian stream of fields
// of `bits` bits, padded with zero bits: at 4 bits element 2k is the low nibble. A field holds
//   integer  code + 2^(bits - 1)
//   MXINT    the sign in its top bit, the magnitude below
//   NF4      the code
// Persistent: this is the layout on disk.
Tensor pack_codes(const Tensor& codes, const WeightScheme& scheme);

// The inverse; `in` is the number of columns.
Tensor unpack_codes(const Tensor& packed, int64_t in, const WeightScheme& scheme);

// MXINT: the exponent e of every scale 2^(e - bits + 2) as a byte, e + 127: 1 to 254.
// REQUIRES: scales that mxint_scale() makes.
Tensor pack_exponents(const Tensor& scale, int bits);
// The inverse; float32.
Tensor unpack_exponents(const Tensor& bytes, int bits);

}  // namespace ptq
