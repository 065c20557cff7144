// Reads the program's own format (format.h) back into weights and sites.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "ptq/checkpoint/checkpoint.h"
#include "ptq/model/model.h"

namespace ptq {

// The weights of an artifact. `checkpoint` must outlive it. Everything in the files is checked when it is
// read: codes in range, scales finite and positive, shapes as the scheme implies.
class ArtifactSource : public WeightSource {
 public:
  // Throws Error if the quantization_config is malformed or of another version.
  ArtifactSource(const Checkpoint& checkpoint, at::Device device);

  const TensorInfo* find(const std::string& name) const override;
  Weight read(const std::string& name, Role role, const std::vector<int64_t>& shape) const override;
  std::vector<std::string> names() const override;
  const Json& config() const override { return checkpoint_.config(); }
  bool tied(const std::string&, const std::string&) const override {
    return false;
  }  // each tensor is stored once
  at::Device device() const override { return floats_.device(); }

  // Gives the sites of a block their quantizers and transforms.
  void configure_sites(Block& block) const;
  // Gives the linears of a block their corrections.
  void configure_corrections(Block& block) const;

 private:
  Tensor read_scale(const std::string& name, const WeightScheme& scheme,
                    const std::vector<int64_t>& shape) const;
  // `shape` is that of the scale.
  Tensor read_zero(const std::string& name, const WeightScheme& scheme,
                   const std::vector<int64_t>& shape) const;
  // One factor of `linear`'s correction, and its scale if it is stored in codes.
  Tensor read_factor(const std::string& name, const std::vector<int64_t>& shape, DType dtype,
                     int64_t rank_dim, Tensor& scale) const;
  static void check_codes(const QuantizedTensor& q, const std::string& name);
  ActivationQuantizer read_quantizer(JsonFields& fields, const Site& site, const std::string& key) const;

  const Checkpoint& checkpoint_;
  FloatSource floats_;
  void read_schemes(const Json& weights, const std::string& where);

  std::map<std::string, WeightScheme> schemes_;
  std::map<std::string, TensorInfo> weights_;  // by the name of the weight: its logical shape
  Json sites_;
  Json corrections_;
};

}  // namespace ptq
