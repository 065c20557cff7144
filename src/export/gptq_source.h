// Reads GPTQ and AWQ, ours and other programs' (gptq_config.h).
#pragma once

#include "export/coded_source.h"
#include "export/gptq_config.h"

namespace ptq {

inline constexpr const char* kQweight = ".qweight";
inline constexpr const char* kQzeros = ".qzeros";
inline constexpr const char* kScales = ".scales";
inline constexpr const char* kGroupOfColumn = ".g_idx";

class GptqSource : public CodedSource {
 public:
  // Reads headers. Throws Error for a configuration that is not read, and where it and the tensors do not
  // fit.
  GptqSource(const Checkpoint& checkpoint, at::Device device);

 private:
  void add_linear(const TensorInfo& qweight);
  QuantizedTensor read_codes(const std::string& linear, const WeightScheme& scheme,
                             const std::vector<int64_t>& shape) const override;
  Tensor read_zeros(const std::string& linear, const std::vector<int64_t>& shape) const;
  void expect_groups_in_order(const std::string& linear, int64_t columns, int64_t group) const;

  GptqConfig config_;
};

// Whether what lies at `path` says that it is in GPTQ: by its config.json, or, where that says nothing of
// quantization, by the quantize_config.json beside it, as AutoGPTQ wrote it.
bool is_gptq_at(const std::string& path);

OpenModel open_gptq(const std::string& path, const CheckpointOptions& options, at::Device device);

}  // namespace ptq
