#include "pipeline/dequantized_source.h"

namespace ptq {

DequantizedSource::DequantizedSource(std::unique_ptr<WeightSource> coded)
    : coded_(std::move(coded)), config_(coded_->config()) {
  if (config_.is_object()) config_.erase("quantization_config");
}

// The steps rewrite float32.
Weight DequantizedSource::read(const std::string& name, Role role, const std::vector<int64_t>& shape) const {
  const Weight coded = coded_->read(name, role, shape);
  const at::ScalarType stored = coded.quantized() != nullptr ? at::kFloat : coded.stored;
  const bool shapes_alone = device().is_meta();
  return {name, role, shapes_alone ? at::empty(shape, at::TensorOptions().device(at::kMeta)) : coded.values(),
          stored};
}

}  // namespace ptq
