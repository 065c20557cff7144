// Reads compressed-tensors, ours and other programs'.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "export/compressed_tensors_config.h"
#include "ptq/artifact/open_model.h"

namespace ptq {

// What follows a linear's name in the names of its tensors.
inline constexpr const char* kWeight = ".weight";
inline constexpr const char* kPackedWeight = ".weight_packed";
inline constexpr const char* kWeightScale = ".weight_scale";
inline constexpr const char* kWeightZero = ".weight_zero_point";
inline constexpr const char* kWeightShape = ".weight_shape";
inline constexpr const char* kInputScale = ".input_scale";

// `checkpoint` must outlive it. What is read is checked: forms as the scheme implies, codes in range, scales
// finite and positive.
class CompressedTensorsSource : public WeightSource {
 public:
  // Reads headers, and the shapes of packed weights. Throws Error for a configuration that is not read, and
  // where it and the stored tensors do not fit.
  CompressedTensorsSource(const Checkpoint& checkpoint, at::Device device);

  const TensorInfo* find(const std::string& name) const override;
  Weight read(const std::string& name, Role role, const std::vector<int64_t>& shape) const override;
  std::vector<std::string> names() const override;
  const Json& config() const override { return checkpoint_.config(); }
  bool tied(const std::string& a, const std::string& b) const override { return floats_.tied(a, b); }
  at::Device device() const override { return floats_.device(); }

  // Throws Error unless the linears of the architecture are stored as the configuration says, and nothing but
  // linears is stored in codes. Reads no values.
  void check_complete() const;
  // Gives the sites of a block the quantizers of the linears that read them. Throws Error if those differ.
  void configure_sites(Block& block) const;

 private:
  void add_codes(const TensorInfo& info);
  std::vector<int64_t> packed_shape(const TensorInfo& packed, const std::string& linear, int bits) const;
  void expect_companions(const std::string& linear, const LinearScheme& scheme);
  Tensor read_codes(const std::string& linear, const LinearScheme& scheme,
                    const std::vector<int64_t>& shape) const;
  Tensor read_zero(const std::string& linear, const LinearScheme& scheme,
                   const std::vector<int64_t>& scale_shape) const;
  ActivationQuantizer input_quantizer(const std::string& linear) const;

  const Checkpoint& checkpoint_;
  FloatSource floats_;
  CompressedTensorsConfig config_;
  std::map<std::string, TensorInfo> weights_;            // logical, by the name of the weight
  std::map<std::string, const LinearScheme*> in_codes_;  // by the name of the linear
};

OpenModel open_compressed_tensors(const std::string& path, const CheckpointOptions& options,
                                  at::Device device);

}  // namespace ptq
