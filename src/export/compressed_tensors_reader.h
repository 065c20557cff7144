// Reads compressed-tensors, ours and other programs'.
#pragma once

#include <string>
#include <vector>

#include "export/coded_source.h"
#include "export/compressed_tensors_config.h"

namespace ptq {

// What follows a linear's name in the names of its tensors.
inline constexpr const char* kPackedWeight = ".weight_packed";
inline constexpr const char* kWeightScale = ".weight_scale";
inline constexpr const char* kWeightZero = ".weight_zero_point";
inline constexpr const char* kWeightShape = ".weight_shape";
inline constexpr const char* kInputScale = ".input_scale";

// `checkpoint` must outlive it. What is read is checked: forms as the scheme implies, codes in range, scales
// finite and positive.
class CompressedTensorsSource : public CodedSource {
 public:
  // Reads headers, and the shapes of packed weights. Throws Error for a configuration that is not read, and
  // where it and the stored tensors do not fit.
  CompressedTensorsSource(const Checkpoint& checkpoint, at::Device device);

  // Gives the sites of a block the quantizers of the linears that read them. Throws Error if those differ.
  void configure_sites(Block& block) const;

 private:
  void add_linear(const TensorInfo& info);
  std::vector<int64_t> packed_shape(const TensorInfo& packed, const std::string& linear, int bits) const;
  void expect_companions(const std::string& linear, const LinearScheme& scheme);
  QuantizedTensor read_codes(const std::string& linear, const WeightScheme& weights,
                             const std::vector<int64_t>& shape) const override;
  bool claims(const std::string& linear) const override { return config_.scheme_of(linear) != nullptr; }
  Tensor read_integers(const std::string& linear, const LinearScheme& scheme,
                       const std::vector<int64_t>& shape) const;
  Tensor read_zero(const std::string& linear, const LinearScheme& scheme,
                   const std::vector<int64_t>& scale_shape) const;
  ActivationQuantizer input_quantizer(const std::string& linear) const;

  CompressedTensorsConfig config_;
};

OpenModel open_compressed_tensors(const std::string& path, const CheckpointOptions& options,
                                  at::Device device);

}  // namespace ptq
