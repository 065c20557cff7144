// A Mamba of a few hundred weights as a safetensors file, for tests that spoil it in one place.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "checkpoint/builders.h"
#include "ptq/base/json.h"

namespace ptq::testing {

struct TinyMamba {
  static constexpr int64_t kVocabulary = 16, kHidden = 4, kInner = 8, kState = 2, kRank = 1, kWidth = 4;

  std::map<std::string, std::vector<int64_t>> shapes;
  std::map<std::string, std::vector<float>> values;

  explicit TinyMamba(int64_t layers = 1, int64_t inner = kInner) {
    shapes = {{"backbone.embeddings.weight", {kVocabulary, kHidden}}, {"backbone.norm_f.weight", {kHidden}}};
    for (int64_t i = 0; i < layers; ++i) {
      const std::string layer = "backbone.layers." + std::to_string(i) + ".", mixer = layer + "mixer.";
      shapes.insert({{layer + "norm.weight", {kHidden}},
                     {mixer + "in_proj.weight", {2 * inner, kHidden}},
                     {mixer + "conv1d.weight", {inner, 1, kWidth}},
                     {mixer + "conv1d.bias", {inner}},
                     {mixer + "x_proj.weight", {kRank + 2 * kState, inner}},
                     {mixer + "dt_proj.weight", {inner, kRank}},
                     {mixer + "dt_proj.bias", {inner}},
                     {mixer + "A_log", {inner, kState}},
                     {mixer + "D", {inner}},
                     {mixer + "out_proj.weight", {kHidden, inner}}});
    }
    for (const auto& [name, shape] : shapes) {
      int64_t count = 1;
      for (const int64_t size : shape) count *= size;
      for (int64_t i = 0; i < count; ++i)
        values[name].push_back(std::sin(static_cast<float>(i * 7 + static_cast<int64_t>(name.size()))));
    }
  }

  // The safetensors file, F32.
  std::string bytes() const {
    Json header = Json::object();
    std::string data;
    for (const auto& [name, numbers] : values) {
      const size_t begin = data.size();
      for (const float number : numbers) data += le(std::bit_cast<uint32_t>(number));
      header[name] = {{"dtype", "F32"}, {"shape", shapes.at(name)}, {"data_offsets", {begin, data.size()}}};
    }
    return safetensors(header.dump(), data);
  }
};

}  // namespace ptq::testing
