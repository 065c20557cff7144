// Artifacts of toy models, rounded as a test says, and what the row compressed-tensors makes of them.
#pragma once

#include <filesystem>
#include <string>

#include "../support/toy_llama.h"
#include "../support/toy_source.h"
#include "ptq/base/file.h"
#include "ptq/export/formats.h"
#include "write_artifact.h"

namespace ptq::testing {

// Of 4 heads and 96 hidden features of the feed-forward, so that groups of 32 fill the rows.
inline ToyModel wide_llama() {
  return toy_llama({.hidden = 64, .heads = 4, .kv_heads = 2, .intermediate = 96});
}

inline ToyModel wide_mamba() {
  return {toy_mamba({.d_model = 32, .d_inner = 64}), {}};
}

// All linears in `scheme`; what bears no few bits in 8.
inline Change in(const WeightScheme& scheme) {
  return [scheme](Block& block) {
    for (Linear* linear : block.linears()) {
      WeightScheme own = scheme;
      if (linear->min_bits > scheme.bits) own = WeightScheme{};
      linear->weight.set(round_to_nearest(linear->weight.values(), own));
    }
  };
}

inline WeightScheme groups(int bits, int64_t group, bool symmetric = true) {
  WeightScheme scheme;
  scheme.bits = bits;
  scheme.granularity = Granularity::kGroup;
  scheme.group = group;
  scheme.symmetric = symmetric;
  scheme.half_scales = true;
  return scheme;
}

inline WeightScheme rows(int bits, bool symmetric = true) {
  WeightScheme scheme;
  scheme.bits = bits;
  scheme.granularity = Granularity::kChannel;
  scheme.symmetric = symmetric;
  return scheme;
}

// The inputs of linears.
inline Change with_inputs(const Change& change, const ActivationQuantizer& quantizer) {
  return [change, quantizer](Block& block) {
    change(block);
    for (const Linear* linear : block.linears()) block.site(linear->site).quantizer = quantizer;
  };
}

class ToyArtifacts : public ::testing::Test {
 protected:
  // Writes q, and returns its path.
  std::string artifact(const ToyModel& toy, const Change& change) const {
    namespace fs = std::filesystem;
    for (const char* name : {"m", "ct", "ct-adapter"}) fs::remove_all(directory_ / name);
    fs::create_directory(directory_ / "m");
    write_safetensors(directory_ / "m/model.safetensors", toy.tensors);
    if (!toy.config.is_null()) directory_.write("m/config.json", toy.config.dump());
    return write_artifact(directory_ / "m", directory_ / "q", change);
  }
  // Writes it as ct.
  ExportResult exported(const ToyModel& toy, const Change& change) const {
    const OpenModel model = open_model(artifact(toy, change), {}, at::kCPU);
    return format_.write(model, target());
  }
  // Why it cannot be; the same whether values are there or not.
  std::string refusal(const ToyModel& toy, const Change& change) const {
    const std::string path = artifact(toy, change);
    const std::string reason = format_.why_not(open_model(path, {}, at::kMeta), target());
    EXPECT_EQ(reason, format_.why_not(open_model(path, {}, at::kCPU), target()));
    return reason;
  }
  ExportTarget target() const { return {directory_ / "ct", export_options(format_, {})}; }
  OpenModel opened() const { return open_any_model(directory_ / "ct", {}, at::kCPU); }
  Json quantization() const {
    return read_json_file(directory_ / "ct/config.json").at("quantization_config");
  }
  Tensor logits(const OpenModel& model) const {
    const at::InferenceMode inference;
    return logits_of(*model.model, toy_ids());
  }
  // Whether what was exported computes what the artifact does, to the bit.
  void expect_same_logits() const {
    const OpenModel before = open_model(directory_ / "q", {}, at::kCPU), after = opened();
    EXPECT_TRUE(after.quantized);
    EXPECT_TRUE(at::equal(logits(before), logits(after)));
  }

  const TempDirectory directory_;
  const FormatEntry& format_ = find_format("compressed-tensors");
};

}  // namespace ptq::testing
