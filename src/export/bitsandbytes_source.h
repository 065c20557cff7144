// Reads NF4 of bitsandbytes, ours and other programs', quantized once or twice (bitsandbytes_config.h).
#pragma once

#include "export/bitsandbytes_config.h"
#include "export/coded_source.h"

namespace ptq {

inline constexpr const char* kAbsmax = ".weight.absmax";
inline constexpr const char* kQuantMap = ".weight.quant_map";
inline constexpr const char* kQuantState = ".weight.quant_state.bitsandbytes__nf4";

// The scheme of every linear in codes.
WeightScheme nf4_scheme();
// The 16 values that codes stand for. float32
Tensor nf4_map();
// codes [out, in] as U8 [out in / 2, 1], and back.
Tensor pack_nf4(const Tensor& codes);
Tensor unpack_nf4(const Tensor& bytes, const std::vector<int64_t>& shape);

class BitsandbytesSource : public CodedSource {
 public:
  // Reads headers, and what quant_state says. Throws Error for what is not read, and where tensors do not
  // fit.
  BitsandbytesSource(const Checkpoint& checkpoint, at::Device device);

 private:
  void add_linear(const std::string& linear);
  void expect_forms(const std::string& linear, const Nf4State& state) const;
  QuantizedTensor read_codes(const std::string& linear, const WeightScheme& scheme,
                             const std::vector<int64_t>& shape) const override;
  Tensor read_nested_scales(const std::string& linear, const Nf4State& state) const;

  std::map<std::string, Nf4State> states_;  // by the name of the linear
};

OpenModel open_bitsandbytes(const std::string& path, const CheckpointOptions& options, at::Device device);

}  // namespace ptq
