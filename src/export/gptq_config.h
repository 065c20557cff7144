// GPTQ and AWQ: two layouts of the same thing, weights in integers and floats for all else.
//
//   {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": true, "desc_act": false,
//    "checkpoint_format": "gptq" | "gptq_v2"}
//   {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": true, "version": "gemm"}
// with a group_size of -1 for one scale a row of W [out, in]. A linear X is stored as
//            GPTQ                                        AWQ
//   qweight  I32 [in bits / 32, out], down the columns   I32 [in, out / 8], eight columns in kAwqOrder
//   qzeros   I32 [groups, out bits / 32]                 I32 [groups, out / 8], in the same order
//   scales   F16 [groups, out]                           the same
//   g_idx    I32 [in]: the group of each column          none
// Fields are unsigned, the first in the lowest bits: x = (field - zero point) scale. GPTQ's first version,
// which has no "checkpoint_format" but "gptq", stores zero points less 1, so that 0 has no place.
// Sources: GPTQModel 7.7, quantization/config.py; transformers 5.24, utils/quantization_config.py.
#pragma once

#include <string>

#include "ptq/base/json.h"
#include "ptq/codec/scheme.h"

namespace ptq {

inline constexpr const char* kGptqMethod = "gptq";
inline constexpr const char* kAwqMethod = "awq";

enum class GptqLayout { kGptqV1, kGptqV2, kAwq };

struct GptqConfig {
  GptqLayout layout = GptqLayout::kGptqV1;
  WeightScheme scheme;  // of every linear in codes: 2, 3, 4, 8 bits, AWQ 4; by channel or group
};

// Throws Error, naming `where` and the key, for what is malformed, not known, or not read: other layouts,
// other schemes of single layers, activations, rotations. `quant_method` is one of the two.
GptqConfig read_gptq_config(const Json& quantization_config, const std::string& where);

// The inverse, of what servers read.
Json gptq_config_json(const GptqConfig& config);

}  // namespace ptq
