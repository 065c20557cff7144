// Arbitrary bytes as a quantization_config of compressed-tensors: an Error, or schemes that a reader can have.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "export/compressed_tensors_config.h"
#include "ptq/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const ptq::Json json = ptq::parse_json({reinterpret_cast<const char*>(data), size}, "input");
    const ptq::CompressedTensorsConfig config(json, "input");
    for (const char* name :
         {"model.layers.0.self_attn.q_proj", "lm_head", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!"}) {
      const ptq::LinearScheme* scheme = config.scheme_of(name);
      if (scheme == nullptr) continue;
      const ptq::WeightScheme& weights = scheme->weights;
      const bool grouped = weights.granularity == ptq::Granularity::kGroup;
      if (weights.bits < 2 || weights.bits > 8 || grouped != (weights.group > 0)) std::abort();
      if (scheme->inputs && (scheme->inputs->bits < 2 || scheme->inputs->bits > 8)) std::abort();
      // What is written of it is read as the same.
      const ptq::Json again = {{"quant_method", ptq::kCompressedTensors},
                               {"config_groups", {{"group_0", ptq::group_json(*scheme, {"Linear"})}}}};
      const ptq::CompressedTensorsConfig read(again, "again");
      if (!(*read.scheme_of("any") == *scheme)) std::abort();
    }
  } catch (const ptq::Error&) {
  }
  return 0;
}
