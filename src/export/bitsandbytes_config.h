// NF4 of bitsandbytes: linears in blocks of 64 values of a table, everything else in float.
//
//   {"quant_method": "bitsandbytes", "load_in_4bit": true, "bnb_4bit_quant_type": "nf4",
//    "bnb_4bit_use_double_quant": BOOL, "bnb_4bit_quant_storage": "uint8", ...}
// A linear X with W [out, in] is stored as
//   X.weight                                  U8 [out in / 2, 1], the first of two codes in the high bits
//   X.weight.absmax                           F32 [out in / 64]
//   X.weight.quant_map                        F32 [16], the table
//   X.weight.quant_state.bitsandbytes__nf4    U8, the bytes of {"quant_type": "nf4", "blocksize": 64,
//                                             "dtype": "float16", "shape": [out, in]}
// Twice quantized, absmax is U8, of which the value is nested_quant_map[code] nested_absmax[block] +
// nested_offset:
//   X.weight.nested_absmax                    F32 [blocks of nested_blocksize]
//   X.weight.nested_quant_map                 F32 [256]
// Blocks run over the flattened weight, so that rows are multiples of 64.
// Source: bitsandbytes 0.50.2, functional.py, QuantState.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ptq/base/json.h"

namespace ptq {

inline constexpr const char* kBitsandbytes = "bitsandbytes";

// Throws Error, naming `where` and the key, for what is malformed, not known, or not read: 8 bits, FP4, words
// other than bytes.
void expect_nf4_config(const Json& quantization_config, const std::string& where);

// `in_float`: names of layers that are not in codes.
Json nf4_config_json(const std::vector<std::string>& in_float);

// What the bytes of quant_state say.
struct Nf4State {
  std::vector<int64_t> shape;    // [out, in]
  int64_t nested_blocksize = 0;  // 0: absmax is float32
  double nested_offset = 0;
};

// Throws Error, naming `where`, for what is malformed or not read.
Nf4State read_nf4_state(std::string_view bytes, const std::string& where);

// The bytes for a weight [out, in] whose values become `dtype` ("float16").
std::string nf4_state_text(int64_t out, int64_t in, const char* dtype);

}  // namespace ptq
