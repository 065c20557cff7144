// Artifacts of toy models, rounded as a test says, and what a row of the table of formats makes of them.
#pragma once

#include <filesystem>
#include <string>

#include "../base/expect_error.h"
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

// The change, and then another.
inline Change and_then(const Change& change, const Change& more) {
  return [change, more](Block& block) {
    change(block);
    more(block);
  };
}

// A correction of every linear.
inline void correct(Block& block) {
  for (Linear* linear : block.linears()) {
    const Tensor w = linear->weight.values();
    linear->correction = make_low_rank(w.slice(0, 0, 2) * 0.01, w.slice(1, 0, 2) * 0.01, at::kBFloat16);
  }
}

class ToyArtifacts : public ::testing::Test {
 protected:
  explicit ToyArtifacts(const std::string& format = "compressed-tensors") : format_(find_format(format)) {}

  // Writes q, and returns its path.
  std::string artifact(const ToyModel& toy, const Change& change) const {
    namespace fs = std::filesystem;
    for (const char* name : {"m", "out", "out-adapter"}) fs::remove_all(directory_ / name);
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
  ExportTarget target() const { return {directory_ / "out", export_options(format_, {})}; }
  OpenModel opened() const { return open_any_model(directory_ / "out", {}, at::kCPU); }
  Json quantization() const { return config().at("quantization_config"); }
  Tensor logits(const OpenModel& model) const {
    const at::InferenceMode inference;
    return logits_of(*model.model, toy_ids());
  }
  // What was exported, by name, and in place of it.
  TensorMap stored() const {
    const auto checkpoint = open_checkpoint(directory_ / "out");
    TensorMap tensors;
    for (const TensorInfo& info : checkpoint->tensors())
      tensors[info.name] = as_tensor(checkpoint->read(info.name)).clone();
    return tensors;
  }
  void store(const TensorMap& tensors) const {
    write_safetensors(directory_ / "out/model.safetensors", tensors);
  }
  Json config() const { return read_json_file(directory_ / "out/config.json"); }
  // The configuration with the value at a JSON pointer below quantization_config replaced.
  void set(const std::string& pointer, const Json& value) const {
    Json json = config();
    json[Json::json_pointer("/quantization_config" + pointer)] = value;
    directory_.write("out/config.json", json.dump());
  }
  // Of what lies there, when it is opened and run.
  void expect_refusal(const std::string& words) const {
    EXPECT_ERROR(logits(opened()), ExitCode::kFailed, words);
  }
  // Whether what was exported computes what the artifact does, to the bit.
  void expect_same_logits() const {
    const OpenModel before = open_model(directory_ / "q", {}, at::kCPU), after = opened();
    EXPECT_TRUE(after.quantized);
    EXPECT_TRUE(at::equal(logits(before), logits(after)));
  }

  const TempDirectory directory_;
  const FormatEntry& format_;
};

}  // namespace ptq::testing
