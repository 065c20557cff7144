// Codes in the 32-bit words of GPTQ and AWQ (gptq_config.h).
#pragma once

#include "export/gptq_config.h"
#include "ptq/codec/quantized_tensor.h"

namespace ptq {

// Codes of all layouts are int8, fields less 2^(bits - 1). Where words are made, the fields must fill them:
// in and out are multiples of 32.

// codes [out, in] -> qweight
Tensor pack_qweight(const Tensor& codes, int bits, GptqLayout layout);
// The inverse. `shape`: of the codes.
Tensor unpack_qweight(const Tensor& words, const std::vector<int64_t>& shape, int bits, GptqLayout layout);
// zero points [out, groups] -> qzeros. REQUIRES: none is the lowest if the layout is kGptqV1.
Tensor pack_qzeros(const Tensor& zeros, int bits, GptqLayout layout);
// The inverse. Throws Error, naming `name`, for a zero point that kGptqV1 does not hold.
Tensor unpack_qzeros(const Tensor& words, const std::vector<int64_t>& shape, int bits, GptqLayout layout,
                     const std::string& name);

}  // namespace ptq
