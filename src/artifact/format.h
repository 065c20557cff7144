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
//   NAME            I8 codes, with NAME_scale                                  (8 bits)
//   NAME_packed     U8 [out, ceil(in / 2)], see pack_int4, with NAME_scale     (4 bits)
//   NAME_scale      F32 [1] per tensor, F32 [out, 1] per channel, F16 [out, ceil(in / group)] per group
// and a site S = "<block prefix>.sites.<site>" as
//   S.scale         F32 [1], if its quantizer is static
//   S.smooth        F32 [channels], already folded into the weights
//
// quantization_config:
//   {"quant_method": "ptq", "format_version": 1, "recipe": {...},
//    "weights": {NAME: {"bits":, "granularity": "tensor" | "channel" | "group", "group":}},
//    "sites": {S: {"quantizer": "static" | "dynamic" | "none", "bits":, "hadamard": {...}}}}
//
// Every name and number on this page is persistent.
#pragma once

#include <string>

namespace ptq {

inline constexpr int kFormatVersion = 1;
inline constexpr const char* kQuantMethod = "ptq";
inline constexpr const char* kScaleSuffix = "_scale";
inline constexpr const char* kPackedSuffix = "_packed";

// S of a site.
inline std::string site_key(const std::string& block_prefix, const std::string& site) {
  return block_prefix + ".sites." + site;
}

}  // namespace ptq
