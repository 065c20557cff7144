// Writes a random float16 Mamba-1 checkpoint of any size, for benchmarks and for trying sizes that no model
// at hand has.
//
//   make_random_mamba OUT_DIR D_MODEL LAYERS VOCAB
//
// The values are even noise scaled so that activations stay finite; the model predicts nothing.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <random>
#include <span>
#include <vector>

#include "ptq/base/error.h"
#include "ptq/base/json.h"
#include "ptq/base/output.h"

namespace ptq {
namespace {

struct RandomTensor {
  std::string name;
  std::vector<int64_t> shape;
  float scale;  // half the width of the noise
  float center;

  int64_t elements() const {
    int64_t count = 1;
    for (const int64_t size : shape) count *= size;
    return count;
  }
};

// Rounds toward zero; the values are noise, and far from overflow and from subnormals.
uint16_t to_half(float value) {
  uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  const uint32_t sign = (bits >> 16) & 0x8000U;
  const int exponent = static_cast<int>((bits >> 23) & 0xFFU) - 127 + 15;
  if (exponent <= 0) return static_cast<uint16_t>(sign);
  return static_cast<uint16_t>(sign | (static_cast<uint32_t>(exponent) << 10) | ((bits >> 13) & 0x3FFU));
}

std::vector<RandomTensor> tensors_of(int64_t d, int64_t layers, int64_t vocab) {
  const int64_t E = 2 * d, N = 16, R = (d + 15) / 16;
  const auto fan_in = [](int64_t in) { return 1.7F / std::sqrt(static_cast<float>(in)); };
  std::vector<RandomTensor> list = {{"backbone.embeddings.weight", {vocab, d}, 1, 0},
                                    {"backbone.norm_f.weight", {d}, 0, 1}};
  for (int64_t i = 0; i < layers; ++i) {
    const std::string layer = "backbone.layers." + std::to_string(i);
    list.push_back({layer + ".norm.weight", {d}, 0.1F, 1});
    list.push_back({layer + ".mixer.in_proj.weight", {2 * E, d}, fan_in(d), 0});
    list.push_back({layer + ".mixer.conv1d.weight", {E, 1, 4}, 0.5F, 0});
    list.push_back({layer + ".mixer.conv1d.bias", {E}, 0.1F, 0});
    list.push_back({layer + ".mixer.x_proj.weight", {R + 2 * N, E}, fan_in(E), 0});
    list.push_back({layer + ".mixer.dt_proj.weight", {E, R}, fan_in(R), 0});
    list.push_back({layer + ".mixer.dt_proj.bias", {E}, 1, -4});
    list.push_back({layer + ".mixer.A_log", {E, N}, 1.2F, 1.3F});
    list.push_back({layer + ".mixer.D", {E}, 0.1F, 1});
    list.push_back({layer + ".mixer.out_proj.weight", {d, E}, fan_in(E), 0});
  }
  return list;
}

void write_checkpoint(const std::string& directory, int64_t d, int64_t layers, int64_t vocab) {
  std::filesystem::create_directories(directory);
  const std::vector<RandomTensor> list = tensors_of(d, layers, vocab);
  Json header = Json::object();
  int64_t offset = 0;
  for (const RandomTensor& tensor : list) {
    const int64_t bytes = 2 * tensor.elements();
    header[tensor.name] = {
        {"dtype", "F16"}, {"shape", tensor.shape}, {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  const std::string path = directory + "/model.safetensors";
  std::filesystem::remove(path);
  OutputFile out(path);
  const uint64_t length = text.size();
  out.write(std::as_bytes(std::span(&length, 1)));
  out.write(text);
  std::mt19937 random(1);
  for (const RandomTensor& tensor : list) {
    std::vector<uint16_t> values(static_cast<size_t>(tensor.elements()));
    for (uint16_t& value : values) {
      const float noise = static_cast<float>(random()) * 0x1p-31F - 1;  // in [-1, 1)
      value = to_half(tensor.center + tensor.scale * noise);
    }
    out.write(std::as_bytes(std::span(values)));
  }
  out.close();
}

}  // namespace
}  // namespace ptq

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "usage: make_random_mamba OUT_DIR D_MODEL LAYERS VOCAB\n");
    return 2;
  }
  try {
    ptq::write_checkpoint(argv[1], std::atoll(argv[2]), std::atoll(argv[3]), std::atoll(argv[4]));
    return 0;
  } catch (const ptq::Error& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
