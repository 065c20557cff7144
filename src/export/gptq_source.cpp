#include "export/gptq_source.h"

#include <filesystem>

#include "export/gptq_words.h"
#include "export/packed_words.h"
#include "export/rows.h"
#include "ptq/base/error.h"

namespace ptq {
namespace {

constexpr int kWordBits = 32;
constexpr const char* kSettingsFile = "quantize_config.json";

// [out, in] of the words [rows, columns] of a qweight.
std::vector<int64_t> shape_of(const TensorInfo& qweight, const GptqConfig& config) {
  const int bits = config.scheme.bits;
  const int64_t rows = qweight.shape[0], columns = qweight.shape[1];
  if (config.layout == GptqLayout::kAwq) return {columns * (kWordBits / bits), rows};
  if (rows * kWordBits % bits != 0) {
    throw Error(qweight.name, "has " + std::to_string(rows) + " rows of words, which fields of " +
                                  std::to_string(bits) + " bits do not fill");
  }
  return {columns, rows * kWordBits / bits};
}

// A group as long as the row is the row.
WeightScheme scheme_of_row(WeightScheme scheme, int64_t in) {
  if (scheme.granularity == Granularity::kGroup && scheme.group >= in) {
    scheme.granularity = Granularity::kChannel;
    scheme.group = 0;
  }
  return scheme;
}

// What AutoGPTQ wrote beside a config.json without quantization_config; null if there is no such file, or it
// is of another method. Throws Error for a file that cannot be read.
Json settings_beside(const std::string& directory) {
  const std::string path = (std::filesystem::path(directory) / kSettingsFile).string();
  std::error_code failed;
  if (!std::filesystem::is_regular_file(path, failed)) return {};
  std::vector<std::string> repeated;
  Json settings = read_python_json_file(path, {.max_bytes = size_t{1} << 20}, repeated);
  if (!settings.is_object() || !settings.contains("bits")) return {};
  if (!settings.contains("quant_method")) settings["quant_method"] = kGptqMethod;
  return settings.at("quant_method") == kGptqMethod ? settings : Json();
}

GptqConfig config_of(const Checkpoint& stored) {
  const char* const key = "quantization_config";
  if (stored.config().contains(key))
    return read_gptq_config(stored.config().at(key), stored.path() + ": " + key);
  return read_gptq_config(settings_beside(stored.directory()), stored.path() + ": " + kSettingsFile);
}

}  // namespace

bool is_gptq_at(const std::string& path) {
  const std::string method = quant_method_at(path);
  if (!method.empty()) return method == kGptqMethod;
  std::error_code failed;
  const std::filesystem::path place(path);
  const bool is_directory = std::filesystem::is_directory(place, failed);
  try {
    return !settings_beside((is_directory ? place : place.parent_path()).string()).is_null();
  } catch (const Error&) {
    return false;  // who reads it as a model says what is wrong
  }
}

GptqSource::GptqSource(const Checkpoint& stored, at::Device device)
    : CodedSource(stored, device, {kQweight, kQzeros, kScales, kGroupOfColumn}), config_(config_of(stored)) {
  for (const TensorInfo& info : stored.tensors()) {
    if (!without(info.name, kQweight).empty()) add_linear(info);
  }
  add_floats();
}

void GptqSource::add_linear(const TensorInfo& qweight) {
  const std::string linear = without(qweight.name, kQweight);
  if (qweight.dtype != DType::kI32 || qweight.shape.size() != 2) {
    throw Error(qweight.name, std::string("is ") + dtype_name(qweight.dtype) + " " +
                                  shape_text(qweight.shape) + "; codes are words, I32 of two dimensions");
  }
  if (checkpoint().find(linear + kWeight) != nullptr)
    throw Error(linear + kWeight, "is stored in float, and as " + qweight.name + " in codes");
  const std::vector<int64_t> shape = shape_of(qweight, config_);
  const WeightScheme scheme = scheme_of_row(config_.scheme, shape[1]);
  const int64_t groups = scheme.scale_shape(shape[0], shape[1]).at(1);
  const TensorInfo& scales = part(linear, kScales);
  if (scales.shape != std::vector<int64_t>{groups, shape[0]}) {
    throw Error(scales.name, "has shape " + shape_text(scales.shape) + " where the scheme needs " +
                                 shape_text({groups, shape[0]}));
  }
  if (!scheme.symmetric || checkpoint().find(linear + kQzeros) != nullptr)
    expect_form(part(linear, kQzeros), DType::kI32, {groups, words_in_row(shape[0], scheme.bits)});
  if (const TensorInfo* index = checkpoint().find(linear + kGroupOfColumn))
    expect_form(*index, DType::kI32, {shape[1]});
  add(linear, shape, scheme);
}

void GptqSource::expect_groups_in_order(const std::string& linear, int64_t columns, int64_t group) const {
  const std::string name = linear + kGroupOfColumn;
  if (checkpoint().find(name) == nullptr) return;
  const Tensor index = as_tensor(checkpoint().read(name)).to(at::kLong);
  const Tensor expected = at::arange(columns, at::kLong).floor_divide(group);
  if (at::equal(index, expected)) return;
  throw Error(name, "columns that are grouped in the order of their activations are not read",
              "a checkpoint quantized with \"desc_act\": false");
}

Tensor GptqSource::read_zeros(const std::string& linear, const std::vector<int64_t>& shape) const {
  const TensorBytes bytes = checkpoint().read(linear + kQzeros);
  return unpack_qzeros(as_tensor(bytes), shape, config_.scheme.bits, config_.layout, bytes.info.name);
}

QuantizedTensor GptqSource::read_codes(const std::string& linear, const WeightScheme& scheme,
                                       const std::vector<int64_t>& shape) const {
  const bool groups = scheme.granularity == Granularity::kGroup;  // one of zeros may have any scale
  const std::vector<int64_t> scales = scheme.scale_shape(shape.at(0), shape.at(1));
  expect_groups_in_order(linear, shape[1], groups ? scheme.group : shape[1]);
  const TensorBytes words = checkpoint().read(linear + kQweight);
  QuantizedTensor q;
  q.codes = unpack_qweight(as_tensor(words), shape, scheme.bits, config_.layout);
  checkpoint().drop(words.info.name);
  q.scale = read_scales(checkpoint(), linear + kScales, {scales[1], scales[0]}, groups).t().contiguous();
  if (!scheme.symmetric) {
    q.zero = read_zeros(linear, scales);
    return q;
  }
  const bool stored = checkpoint().find(linear + kQzeros) != nullptr;
  if (!stored || !read_zeros(linear, scales).any().item<bool>()) return q;
  throw Error(linear + kQzeros, "has zero points other than " + std::to_string(1 << (scheme.bits - 1)) +
                                    ", and the configuration says that the codes are symmetric");
}

OpenModel open_gptq(const std::string& path, const CheckpointOptions& options, at::Device device) {
  std::unique_ptr<Checkpoint> checkpoint = open_checkpoint(path, options);
  auto source = std::make_unique<GptqSource>(*checkpoint, device);
  return open_coded(std::move(checkpoint), std::move(source));
}

}  // namespace ptq
