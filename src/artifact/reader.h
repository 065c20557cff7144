// Reads the program's own format (format.h) back into weights and sites.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

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

  // Throws Error unless quantization_config, the stored tensors and the architecture name the same things:
  // each site has its entry, everything named is stored, everything stored is named, and nothing was changed
  // since. Reads no values.
  void check_complete() const;

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
  Tensor read_smooth(const std::string& key) const;
  ActivationQuantizer read_quantizer(JsonFields& fields, const Site& site, const std::string& key) const;

  void read_schemes(const Json& weights, const std::string& where);

  // Names of the tensors that a weight, the correction of a layer, and what an entry of a site stands for
  // consist of.
  std::vector<std::string> weight_tensors(const std::string& name) const;
  std::vector<std::string> correction_tensors(const std::string& layer) const;
  std::vector<std::string> site_tensors(const std::string& key) const;
  bool is_smooth(const std::string& key) const;
  // Of versions whose entries do not show what is missing: `first` is the form of the first block.
  using BlockForm = std::map<std::string, std::pair<std::string, size_t>>;
  void check_earlier_block(Block& block, BlockForm& first) const;

  const Checkpoint& checkpoint_;
  FloatSource floats_;
  int64_t version_ = 0;
  std::string sha256_;
  Json recipe_;
  std::map<std::string, WeightScheme> schemes_;
  std::map<std::string, TensorInfo> weights_;  // by the name of the weight: its logical shape
  Json sites_;
  Json corrections_;
};

}  // namespace ptq
