#include "export/compressed_tensors_reader.h"

#include <algorithm>

#include "export/packed_words.h"
#include "ptq/base/error.h"

namespace ptq {
namespace {

constexpr const char* kInputZero = ".input_zero_point";
constexpr const char* kGroupIndex = ".weight_g_idx";

void expect_zeros(const Checkpoint& checkpoint, const std::string& name) {
  const Tensor values = as_tensor(checkpoint.read(name));
  if (values.any().item<bool>()) throw Error(name, "has zero points, and its scheme is symmetric");
}

}  // namespace

CompressedTensorsSource::CompressedTensorsSource(const Checkpoint& stored, at::Device device)
    : CodedSource(stored, device,
                  {kWeight, kPackedWeight, kWeightScale, kWeightZero, kWeightShape, kInputScale, kInputZero,
                   kGroupIndex}),
      config_(stored.config().at("quantization_config"), stored.path() + ": quantization_config") {
  for (const TensorInfo& info : stored.tensors()) add_linear(info);
  add_floats();
}

// Two dimensions, and a name that says so or a scale beside it.
void CompressedTensorsSource::add_linear(const TensorInfo& info) {
  std::string linear = without(info.name, kPackedWeight);
  const bool packed = !linear.empty();
  if (!packed) {
    linear = without(info.name, kWeight);
    if (linear.empty() || (info.dtype != DType::kI8 && checkpoint().find(linear + kWeightScale) == nullptr))
      return;
  }
  const LinearScheme* scheme = config_.scheme_of(linear);
  if (scheme == nullptr)
    throw Error(info.name, "is stored in codes, but no config group of quantization_config claims " + linear);
  if (scheme->packed != packed) {
    throw Error(info.name, std::string("is ") + (packed ? "packed" : "not packed") +
                               ", but its config group is " + scheme->format());
  }
  if (info.shape.size() != 2)
    throw Error(info.name, "has shape " + shape_text(info.shape) + "; codes have two dimensions");
  if (!packed) expect_form(info, DType::kI8, info.shape);
  const std::vector<int64_t> shape = packed ? packed_shape(info, linear, scheme->weights.bits) : info.shape;
  const int64_t in = shape[1], group = scheme->weights.group;
  if (group > 0 && in % group != 0) {
    throw Error(info.name,
                std::to_string(in) + " columns do not divide into groups of " + std::to_string(group));
  }
  add(linear, shape, scheme->weights);
  expect_companions(linear, *scheme);
}

std::vector<int64_t> CompressedTensorsSource::packed_shape(const TensorInfo& packed,
                                                           const std::string& linear, int bits) const {
  const std::string name = part(linear, kWeightShape).name;
  const TensorBytes bytes = checkpoint().read(name);
  const bool whole = bytes.info.dtype == DType::kI64 || bytes.info.dtype == DType::kI32;
  if (!whole || bytes.info.shape != std::vector<int64_t>{2})
    throw Error(name, std::string("is ") + dtype_name(bytes.info.dtype) + " " + shape_text(bytes.info.shape) +
                          " where I64 [2] is needed");
  const Tensor sizes = as_tensor(bytes).to(at::kLong);
  const auto out = sizes[0].item<int64_t>(), in = sizes[1].item<int64_t>();
  if (out < 1 || in < 1 || in > (int64_t{1} << 40)) throw Error(name, "says " + shape_text({out, in}));
  expect_form(packed, DType::kI32, {out, words_in_row(in, bits)});
  return {out, in};
}

void CompressedTensorsSource::expect_companions(const std::string& linear, const LinearScheme& scheme) {
  const auto stored = [&](const char* end) { return checkpoint().find(linear + end) != nullptr; };
  const bool fixed = scheme.inputs && !scheme.inputs->per_token;
  part(linear, kWeightScale);
  if (!scheme.weights.symmetric) part(linear, kWeightZero);
  if (fixed) part(linear, kInputScale);
  if (stored(kGroupIndex)) {
    throw Error(linear + kGroupIndex,
                "columns that are grouped in the order of their activations are not read",
                "a checkpoint with \"actorder\": \"static\"");
  }
  if (!fixed && stored(kInputScale))
    throw Error(linear + kInputScale, "is stored, and the inputs have no scale");
  // Some programs store zero points of symmetric schemes.
  if (scheme.weights.symmetric && stored(kWeightZero)) expect_zeros(checkpoint(), linear + kWeightZero);
  if (stored(kInputZero)) expect_zeros(checkpoint(), linear + kInputZero);
}

Tensor CompressedTensorsSource::read_integers(const std::string& linear, const LinearScheme& scheme,
                                              const std::vector<int64_t>& shape) const {
  const TensorBytes bytes = checkpoint().read(linear + (scheme.packed ? kPackedWeight : kWeight));
  const int bits = scheme.weights.bits;
  if (scheme.packed) {
    const Tensor codes = unpack_words(as_tensor(bytes), shape.at(1), bits);
    checkpoint().drop(bytes.info.name);
    return codes;
  }
  const Tensor codes = as_tensor(bytes).clone();
  checkpoint().drop(bytes.info.name);
  const int64_t top = int64_t{1} << (bits - 1);
  const auto low = codes.min().item<int64_t>(), high = codes.max().item<int64_t>();
  if (low < -top || high >= top) {
    throw Error(bytes.info.name, "has codes from " + std::to_string(low) + " to " + std::to_string(high) +
                                     ", which " + std::to_string(bits) + " bits do not hold");
  }
  return codes;
}

Tensor CompressedTensorsSource::read_zero(const std::string& linear, const LinearScheme& scheme,
                                          const std::vector<int64_t>& scale_shape) const {
  const TensorBytes bytes = checkpoint().read(linear + kWeightZero);
  const int bits = scheme.weights.bits;
  Tensor zero;
  if (scheme.packed && scale_shape.size() == 2) {
    const int64_t out = scale_shape[0];
    expect_form(bytes.info, DType::kI32, {words_in_row(out, bits), scale_shape[1]});
    zero = unpack_words(as_tensor(bytes).t(), out, bits).t().contiguous();
  } else {
    expect_form(bytes.info, DType::kI8, scale_shape);
    zero = as_tensor(bytes).clone();
  }
  const int64_t top = int64_t{1} << (bits - 1);
  if (zero.min().item<int64_t>() < -top || zero.max().item<int64_t>() >= top)
    throw Error(bytes.info.name, "has zero points that " + std::to_string(bits) + " bits do not hold");
  return zero;
}

QuantizedTensor CompressedTensorsSource::read_codes(const std::string& linear, const WeightScheme& weights,
                                                    const std::vector<int64_t>& shape) const {
  const LinearScheme& scheme = *config_.scheme_of(linear);
  const std::vector<int64_t> scales = weights.scale_shape(shape.at(0), shape.at(1));
  const bool groups = weights.granularity == Granularity::kGroup;  // one of zeros may have any scale
  QuantizedTensor q;
  q.codes = read_integers(linear, scheme, shape);
  q.scale = read_scales(checkpoint(), linear + kWeightScale, scales, groups);
  if (!weights.symmetric) q.zero = read_zero(linear, scheme, scales);
  return q;
}

ActivationQuantizer CompressedTensorsSource::input_quantizer(const std::string& linear) const {
  if (!is_in_codes(linear)) return {};
  const LinearScheme& scheme = *config_.scheme_of(linear);
  if (!scheme.inputs) return {};
  const ActivationScheme& inputs = *scheme.inputs;
  if (inputs.per_token) return ActivationQuantizer::per_token(inputs.bits, inputs.symmetric);
  const Tensor scale = read_scales(checkpoint(), linear + kInputScale, {1});
  return ActivationQuantizer::fixed(scale.item<double>(), inputs.bits);
}

void CompressedTensorsSource::configure_sites(Block& block) const {
  std::map<std::string, const Linear*> first;  // by site
  for (const Linear* linear : block.linears()) {
    Site& site = block.site(linear->site);
    const ActivationQuantizer quantizer = input_quantizer(linear->name);
    const auto [other, added] = first.emplace(linear->site, linear);
    if (added) {
      site.quantizer = quantizer;
      site.rounds_for_linears_alone = site.shared;
      continue;
    }
    const bool same = quantizer.scheme() == site.quantizer.scheme() &&
                      (!quantizer.scale.defined() || at::equal(quantizer.scale, site.quantizer.scale));
    if (same) continue;
    throw Error(linear->name,
                "rounds its input otherwise than " + other->second->name + ", which reads the same",
                "a checkpoint with one scheme and one input_scale for both");
  }
}

OpenModel open_compressed_tensors(const std::string& path, const CheckpointOptions& options,
                                  at::Device device) {
  std::unique_ptr<Checkpoint> checkpoint = open_checkpoint(path, options);
  auto source = std::make_unique<CompressedTensorsSource>(*checkpoint, device);
  const Model::OnLoad configure = [&source = *source](Block& block) { source.configure_sites(block); };
  return open_coded(std::move(checkpoint), std::move(source), configure);
}

}  // namespace ptq
