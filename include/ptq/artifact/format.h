// The program's own output format: safetensors with integer codes, and a config.json that says how to read
// them.
//
// Goals: the program runs an artifact with nothing else beside it; another reader needs only safetensors and
// this page. Non-goals: being read by runtimes that do not know it (the export formats are for that).
//
// Files: config.json = the source's configuration plus "quantization_config"; model.safetensors, or shards
// with an index; tokenizer files as the source has them; report.json; SHA256SUMS over every other file.
//
// Tensors keep the source's names. A weight NAME [out, in] is stored as
//   NAME            its float dtype, if it was not rounded
//   NAME            I8 codes, with NAME_scale                                  (8 bits, and 6 bits in 8)
//   NAME_packed     U8 [out, ceil(in bits / 8)], see pack_codes, with NAME_scale   (2, 3, 4 bits, MXINT)
//   NAME_scale      F32 [1] per tensor, F32 [out, 1] per channel, F16 [out, ceil(in / group)] per group, or
//                   F32 if "scales" says so; NF4: F32 [out, ceil(in / 64)]
//   NAME_exponent   U8 [out, ceil(in / group)], MXINT only: the exponent of the block + 127
//   NAME_zero       U8, the shape of NAME_scale: zero points of an asymmetric scheme, 0 to 2^bits - 1
// The value is code * scale, (code - zero) * scale, for MXINT code * 2^(exponent - bits + 2), for NF4
// table[code] * scale. Asymmetric codes are stored less 2^(bits - 1) where they lie in I8, and as they are in
// packed form. A scale of 0, which groups and NF4 may have, makes all values 0.
//
// A linear X (NAME less ".weight") with a correction computes x W^T + (x A^T) B^T:
//   X.lora_A        BF16, F16, F32 [rank, in], or I8 with X.lora_A_scale F32 [rank]
//   X.lora_B        the same [out, rank]: its columns have the scales
// A site S = "<block prefix>.sites.<site>" is stored as
//   S.scale         F32 [1], if its quantizer is static
//   S.smooth        F32 [channels], already folded into the weights
//   S.signs         I8 [channels]                                    of a transform, which is
//   S.rotation      F32 [n, B, B], the rotations in order            applied to what arrives
//   S.permutation   I32 [channels], a gather                         before it is rounded
//
// quantization_config:
//   {"quant_method": "ptq", "format_version": 4, "sha256":, "recipe": {...},
//    "weights": {NAME: {"bits":, "granularity": "tensor" | "channel" | "group", "group": (of groups),
//                       "symmetric":, "format": "mxint" | "nf4" (else integers),
//                       "scales": "F32" (of groups whose scales F16 does not hold),
//                       "shape": (of packed ones)}},
//    "corrections": {X: {"rank":}},
//    "sites": {S: {"quantizer": "static" | "dynamic" | "none", "bits": (if it rounds),
//                  "symmetric": (dynamic), "clip": (dynamic), "group": (dynamic, of heads), "smooth": BOOL,
//                  "transform": [{"type": "hadamard", ...} |
//                                {"type": "rotation" | "permutation" | "signs"}]}}}
// The stages of a transform are applied in the order listed; a second permutation or second signs of a site
// are S.permutation_1, S.signs_1.
//
// Nothing is left to a reader's guess: every site of every block has an entry, an entry has all keys of its
// kind and no other, every stored tensor is named by an entry or is a float weight of the architecture, and
// everything named is stored. "sha256" is the hash of the object's other entries as JSON without blanks, keys
// sorted; it shows what else was changed. A reader refuses what does not fit.
//
// Earlier versions: 1 has {"hadamard": {...}} for a transform of that single stage, and no symmetric, clip or
// group; 2 has no corrections; up to 3 there is no sha256, sites that do nothing have no entry, "transform"
// is absent if it is empty, and S.smooth is used if it is stored.
//
// Every name and number on this page is persistent.
#pragma once

#include <string>

#include "ptq/base/json.h"

namespace ptq {

inline constexpr int kFormatVersion = 4;
inline constexpr const char* kQuantMethod = "ptq";
inline constexpr const char* kScaleSuffix = "_scale";
inline constexpr const char* kPackedSuffix = "_packed";
inline constexpr const char* kExponentSuffix = "_exponent";
inline constexpr const char* kZeroSuffix = "_zero";
inline constexpr const char* kLoraASuffix = ".lora_A";
inline constexpr const char* kLoraBSuffix = ".lora_B";

// The version from which everything is listed: sites that do nothing, empty transforms, "smooth", "sha256".
inline constexpr int kListsAll = 4;

// What "sha256" of a quantization_config must be.
std::string config_hash(const Json& quantization_config);

// S of a site.
inline std::string site_key(const std::string& block_prefix, const std::string& site) {
  return block_prefix + ".sites." + site;
}

}  // namespace ptq
