#include "compute_option.h"

#include <spdlog/spdlog.h>

#include "ptq/base/error.h"
#include "ptq/export/formats.h"

namespace ptq {

Int8Linears int8_linears(const std::string& path, const CheckpointOptions& options) {
  const OpenModel shapes = open_any_model(path, options, at::kMeta);
  Int8Linears count;
  for (int64_t i = 0; i < shapes.model->num_blocks(); ++i) {
    const std::unique_ptr<Block> block = shapes.model->load_block(i);
    for (const Linear* linear : block->linears()) {
      ++count.all;
      if (linear->takes_int8(block->site(linear->site).quantizer.scheme())) ++count.changed;
    }
  }
  return count;
}

void throw_nothing_to_round(const std::string& models) {
  throw usage_error(std::string("--compute ") + kComputeInInt8,
                    "rounds the float inputs of weights in codes for their products, and " + models +
                        " has no such linear: weights are in floats or in codes of a table (NF4), or inputs "
                        "are in codes already",
                    "a checkpoint of which only weights were rounded: --bits w4a16, w8a16");
}

Compute compute_of(const std::string& asked, const std::string& path, const CheckpointOptions& options) {
  if (asked != kComputeInInt8) return {};
  const Int8Linears count = int8_linears(path, options);
  if (count.changed == 0) throw_nothing_to_round(path);
  if (count.changed < count.all) {
    spdlog::warn("--compute {}: {} of {} linears; the others are computed as their weights and inputs are",
                 kComputeInInt8, count.changed, count.all);
  }
  return {.int8_inputs = true};
}

}  // namespace ptq
