// Number formats of llama.cpp's tensor library ggml: floats, and blocks of 32 or 256 values with their
// scales.
//
// Every layout and number here is persistent: it is what GGUF files hold (ggml-common.h, ggml-quants.c).
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <span>
#include <string_view>

#include "ptq/codec/quantized_tensor.h"

namespace ptq {

enum class GgmlType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ4_NL = 20,
  kBF16 = 30,
};

struct GgmlTypeEntry {
  GgmlType type;
  const char* name;     // "Q4_K"
  const char* option;   // "q4_k"
  int64_t block;        // values of a block; 1: floats
  int64_t block_bytes;  // of one
  uint32_t file_type;   // general.file_type of a file that has most of its tensors in it

  bool is_float() const { return block == 1; }
  // REQUIRES: in is a multiple of `block`.
  int64_t row_bytes(int64_t in) const { return in / block * block_bytes; }
};

// Those that this program reads and writes.
std::span<const GgmlTypeEntry> ggml_types();
const GgmlTypeEntry& ggml_type(GgmlType type);
// nullptr if there is none of that number, or of that name for options.
const GgmlTypeEntry* find_ggml_type(uint32_t number);
const GgmlTypeEntry* find_ggml_type(std::string_view option);

// x [out, in] float32 as uint8 [out, row_bytes(in)]. Q8_0, Q4_0, Q4_1, Q5_0 and Q5_1 are byte for byte what
// ggml makes; for the others scales are searched that leave the least squared error (ggml_search.h). Scales
// past 65504 become infinite. The same bytes for any number of threads.
// REQUIRES: in is a multiple of the type's block.
Tensor pack_ggml(const Tensor& x, GgmlType type);
// The inverse: float32 [out, in].
Tensor unpack_ggml(const Tensor& bytes, GgmlType type);

// How codes of a scheme are stored without being rounded again: Q4_0 and Q8_0 have symmetric ones, Q4_1 those
// with a zero point of at most 4 bits. Scales become float16, and minima of Q4_1. False where a block of 32
// would lie in two groups, or a code has no home.
bool holds_codes(const WeightScheme& scheme, int64_t in, GgmlType& type);
// REQUIRES: holds_codes() gives `type`.
Tensor pack_codes_ggml(const QuantizedTensor& q, GgmlType type);
// Blocks of Q8_0 or Q4_0 as codes of 8 or 4 bits in groups of 32. Scales may be negative.
QuantizedTensor unpack_codes_ggml(const Tensor& bytes, GgmlType type);

}  // namespace ptq
