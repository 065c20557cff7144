// Small Mamba models with random weights, in memory and as safetensors files.
#pragma once

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <fstream>
#include <map>
#include <string>

#include "ptq/base/json.h"

namespace ptq::testing {

using TensorMap = std::map<std::string, at::Tensor>;

struct ToyModel {
  TensorMap tensors;
  Json config;  // null: none
};

// The safetensors format: header length, header, data.
inline void write_safetensors(const std::string& path, const TensorMap& tensors) {
  const std::map<at::ScalarType, const char*> names = {
      {at::kFloat, "F32"}, {at::kHalf, "F16"}, {at::kBFloat16, "BF16"}, {at::kDouble, "F64"},
      {at::kLong, "I64"},  {at::kInt, "I32"},  {at::kChar, "I8"},       {at::kByte, "U8"}};
  Json header = Json::object();
  std::string data;
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor bytes = tensor.contiguous();
    const size_t begin = data.size();
    data.append(static_cast<const char*>(bytes.const_data_ptr()), bytes.nbytes());
    header[name] = {{"dtype", names.at(tensor.scalar_type())},
                    {"shape", tensor.sizes().vec()},
                    {"data_offsets", {begin, data.size()}}};
  }
  const std::string text = header.dump();
  std::ofstream file(path, std::ios::binary);
  for (size_t i = 0; i < 8; ++i) file.put(static_cast<char>(text.size() >> (8 * i)));
  file << text << data;
}

struct ToyMamba {
  int64_t d_model = 24;
  int64_t d_inner = 48;
  int64_t d_state = 8;
  int64_t d_conv = 3;
  int64_t dt_rank = 2;
  int64_t layers = 2;
  int64_t vocab = 50;
  uint64_t seed = 1;
};

// Weights of about unit gain, so that hidden states neither vanish nor grow; a few channels of the norms are
// ten times larger than the rest, as in trained models. float32.
inline TensorMap toy_mamba(const ToyMamba& sizes) {
  at::Generator generator = at::detail::createCPUGenerator(sizes.seed);
  const auto normal = [&](at::IntArrayRef shape, double deviation) {
    return at::randn(shape, generator) * deviation;
  };
  const auto matrix = [&](int64_t out, int64_t in) {
    return normal({out, in}, 1 / std::sqrt(static_cast<double>(in)));
  };
  const int64_t d = sizes.d_model, E = sizes.d_inner, N = sizes.d_state, R = sizes.dt_rank;
  TensorMap tensors;
  tensors["backbone.embeddings.weight"] = normal({sizes.vocab, d}, 1);
  tensors["backbone.norm_f.weight"] = at::ones({d});
  for (int64_t i = 0; i < sizes.layers; ++i) {
    const std::string layer = "backbone.layers." + std::to_string(i) + ".";
    const std::string mixer = layer + "mixer.";
    at::Tensor gain = 1 + normal({d}, 0.1);
    gain.slice(0, 0, 2).mul_(10);
    tensors[layer + "norm.weight"] = gain;
    tensors[mixer + "in_proj.weight"] = matrix(2 * E, d) * 0.5;
    tensors[mixer + "conv1d.weight"] = normal({E, 1, sizes.d_conv}, 0.5);
    tensors[mixer + "conv1d.bias"] = normal({E}, 0.1);
    tensors[mixer + "x_proj.weight"] = matrix(R + 2 * N, E);
    tensors[mixer + "dt_proj.weight"] = matrix(E, R);
    tensors[mixer + "dt_proj.bias"] = normal({E}, 0.5) - 3;
    tensors[mixer + "A_log"] = at::arange(1, N + 1, at::kFloat).log().repeat({E, 1});
    tensors[mixer + "D"] = 1 + normal({E}, 0.1);
    tensors[mixer + "out_proj.weight"] = matrix(d, E);
  }
  return tensors;
}

}  // namespace ptq::testing
