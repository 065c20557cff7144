// Small Mamba-2 models with random weights.
#pragma once

#include <cmath>
#include <string>

#include "toy_models.h"

namespace ptq::testing {

struct ToyMamba2 {
  int64_t d_model = 24;
  int64_t heads = 4;
  int64_t head_dim = 12;
  int64_t groups = 2;
  int64_t d_state = 8;
  int64_t d_conv = 3;
  int64_t layers = 2;
  int64_t vocab = 50;
  bool biases = false;        // of in_proj and out_proj
  bool state_spaces = false;  // the configuration is of state-spaces' form, and not Hugging Face's
  bool norm = true;           // the gated one; without it only in state-spaces' form
  uint64_t seed = 1;
};

inline Json config_of(const ToyMamba2& sizes) {
  const int64_t E = sizes.heads * sizes.head_dim;
  const double expand = static_cast<double>(E) / static_cast<double>(sizes.d_model);
  if (sizes.state_spaces) {
    return {{"d_model", sizes.d_model},
            {"n_layer", sizes.layers},
            {"vocab_size", sizes.vocab},
            {"ssm_cfg",
             {{"layer", "Mamba2"},
              {"d_state", sizes.d_state},
              {"d_conv", sizes.d_conv},
              {"headdim", sizes.head_dim},
              {"ngroups", sizes.groups},
              {"expand", expand},
              {"bias", sizes.biases},
              {"rmsnorm", sizes.norm}}},
            {"rms_norm", true},
            {"pad_vocab_size_multiple", 2},
            {"tie_embeddings", true}};
  }
  return {{"architectures", {"Mamba2ForCausalLM"}},
          {"model_type", "mamba2"},
          {"vocab_size", sizes.vocab},
          {"hidden_size", sizes.d_model},
          {"num_hidden_layers", sizes.layers},
          {"num_heads", sizes.heads},
          {"head_dim", sizes.head_dim},
          {"n_groups", sizes.groups},
          {"state_size", sizes.d_state},
          {"conv_kernel", sizes.d_conv},
          {"expand", expand},
          {"hidden_act", "silu"},
          {"layer_norm_epsilon", 1e-5},
          {"use_bias", sizes.biases},
          {"use_conv_bias", true},
          {"tie_word_embeddings", true},
          {"bos_token_id", 1}};
}

// As toy_mamba(): about unit gain, a few norm channels ten times larger, float32. Tied.
inline ToyModel toy_mamba2(const ToyMamba2& sizes) {
  at::Generator generator = at::detail::createCPUGenerator(sizes.seed);
  const auto normal = [&](at::IntArrayRef shape, double deviation) {
    return at::randn(shape, generator) * deviation;
  };
  ToyModel model;
  TensorMap& tensors = model.tensors;
  const auto linear = [&](const std::string& name, int64_t out, int64_t in, double gain) {
    tensors[name + ".weight"] = normal({out, in}, gain / std::sqrt(static_cast<double>(in)));
    if (sizes.biases) tensors[name + ".bias"] = normal({out}, 0.2);
  };
  const int64_t d = sizes.d_model, H = sizes.heads, E = H * sizes.head_dim;
  const int64_t conv = E + 2 * sizes.groups * sizes.d_state;
  tensors["backbone.embeddings.weight"] = normal({sizes.vocab, d}, 1);
  tensors["backbone.norm_f.weight"] = at::ones({d});
  for (int64_t i = 0; i < sizes.layers; ++i) {
    const std::string layer = "backbone.layers." + std::to_string(i) + ".";
    const std::string mixer = layer + "mixer.";
    at::Tensor gain = 1 + normal({d}, 0.1);
    gain.slice(0, 0, 2).mul_(10);
    tensors[layer + "norm.weight"] = gain;
    linear(mixer + "in_proj", E + conv + H, d, 0.5);
    tensors[mixer + "conv1d.weight"] = normal({conv, 1, sizes.d_conv}, 0.5);
    tensors[mixer + "conv1d.bias"] = normal({conv}, 0.1);
    tensors[mixer + "dt_bias"] = normal({H}, 0.5) - 3;
    tensors[mixer + "A_log"] = at::arange(1, H + 1, at::kFloat).log();
    tensors[mixer + "D"] = 1 + normal({H}, 0.1);
    if (sizes.norm) tensors[mixer + "norm.weight"] = 1 + normal({E}, 0.1);
    linear(mixer + "out_proj", d, E, 1);
  }
  model.config = config_of(sizes);
  return model;
}

}  // namespace ptq::testing
