#include "export/compressed_tensors_reader.h"

#include <algorithm>

#include "export/packed_words.h"
#include "ptq/base/error.h"
#include "ptq/model/listed_source.h"

namespace ptq {
namespace {

constexpr const char* kInputZero = ".input_zero_point";
constexpr const char* kGroupIndex = ".weight_g_idx";

// What lies beside a weight in codes.
constexpr const char* kCompanions[] = {kWeightScale, kWeightZero, kWeightShape,
                                       kInputScale,  kInputZero,  kGroupIndex};

std::string without(const std::string& name, const std::string& end) {
  return name.ends_with(end) ? name.substr(0, name.size() - end.size()) : "";
}

void expect_form(const TensorInfo& info, DType dtype, const std::vector<int64_t>& shape) {
  if (info.dtype == dtype && info.shape == shape) return;
  throw Error(info.name, std::string("is ") + dtype_name(info.dtype) + " " + shape_text(info.shape) +
                             " where the scheme needs " + dtype_name(dtype) + " " + shape_text(shape));
}

// A scale of floats in one of the shapes; float32.
Tensor read_scales(const Checkpoint& checkpoint, const std::string& name, const std::vector<int64_t>& shape,
                   bool zero_allowed = false) {
  const TensorBytes bytes = checkpoint.read(name);
  const DType dtype = bytes.info.dtype;
  const bool is_float = dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
  const bool one = shape == std::vector<int64_t>{1} && bytes.info.shape.empty();
  if (!is_float || (bytes.info.shape != shape && !one)) {
    throw Error(name, std::string("is ") + dtype_name(dtype) + " " + shape_text(bytes.info.shape) +
                          " where the scheme needs floats " + shape_text(shape));
  }
  const Tensor values = as_tensor(bytes).reshape(shape).to(at::kFloat, false, /*copy=*/true);
  const auto bad = values.numel() -
                   (at::isfinite(values) & (zero_allowed ? values >= 0 : values > 0)).sum().item<int64_t>();
  if (bad != 0) {
    throw Error(name, std::to_string(bad) + " of " + std::to_string(values.numel()) + " scales are not " +
                          (zero_allowed ? "finite, or negative" : "positive and finite"));
  }
  checkpoint.drop(name);
  return values;
}

void expect_zeros(const Checkpoint& checkpoint, const std::string& name) {
  const Tensor values = as_tensor(checkpoint.read(name));
  if (values.any().item<bool>()) throw Error(name, "has zero points, and its scheme is symmetric");
}

}  // namespace

CompressedTensorsSource::CompressedTensorsSource(const Checkpoint& checkpoint, at::Device device)
    : checkpoint_(checkpoint),
      floats_(checkpoint, device, Floats::kStored),
      config_(checkpoint.config().at("quantization_config"), checkpoint.path() + ": quantization_config") {
  for (const TensorInfo& info : checkpoint.tensors()) add_codes(info);
  for (const TensorInfo& info : checkpoint.tensors()) {
    const bool is_companion =
        std::any_of(std::begin(kCompanions), std::end(kCompanions),
                    [&](const char* end) { return in_codes_.contains(without(info.name, end)); });
    const bool is_packed = in_codes_.contains(without(info.name, kPackedWeight));
    if (!is_companion && !is_packed) weights_.emplace(info.name, info);
  }
}

// Two dimensions, and a name that says so or a scale beside it.
void CompressedTensorsSource::add_codes(const TensorInfo& info) {
  std::string linear = without(info.name, kPackedWeight);
  const bool packed = !linear.empty();
  if (!packed) {
    linear = without(info.name, kWeight);
    if (linear.empty() || (info.dtype != DType::kI8 && checkpoint_.find(linear + kWeightScale) == nullptr))
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
  TensorInfo logical = info;
  logical.name = linear + kWeight;
  logical.dtype = DType::kI8;
  if (packed) logical.shape = packed_shape(info, linear, scheme->weights.bits);
  if (!packed) expect_form(info, DType::kI8, info.shape);
  const int64_t in = logical.shape[1], group = scheme->weights.group;
  if (group > 0 && in % group != 0) {
    throw Error(info.name,
                std::to_string(in) + " columns do not divide into groups of " + std::to_string(group));
  }
  expect_companions(linear, *scheme);
  weights_[logical.name] = logical;
  in_codes_[linear] = scheme;
}

std::vector<int64_t> CompressedTensorsSource::packed_shape(const TensorInfo& packed,
                                                           const std::string& linear, int bits) const {
  const std::string name = linear + kWeightShape;
  if (checkpoint_.find(name) == nullptr) throw Error(name, "the tensor is missing");
  const TensorBytes bytes = checkpoint_.read(name);
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
  const auto stored = [&](const char* end) { return checkpoint_.find(linear + end) != nullptr; };
  const auto expect = [&](const char* end) {
    if (!stored(end)) throw Error(linear + end, "the tensor is missing");
  };
  const bool fixed = scheme.inputs && !scheme.inputs->per_token;
  expect(kWeightScale);
  if (!scheme.weights.symmetric) expect(kWeightZero);
  if (fixed) expect(kInputScale);
  if (stored(kGroupIndex)) {
    throw Error(linear + kGroupIndex,
                "columns that are grouped in the order of their activations are not read",
                "a checkpoint with \"actorder\": \"static\"");
  }
  if (!fixed && stored(kInputScale))
    throw Error(linear + kInputScale, "is stored, and the inputs have no scale");
  // Some programs store zero points of symmetric schemes.
  if (scheme.weights.symmetric && stored(kWeightZero)) expect_zeros(checkpoint_, linear + kWeightZero);
  if (stored(kInputZero)) expect_zeros(checkpoint_, linear + kInputZero);
}

const TensorInfo* CompressedTensorsSource::find(const std::string& name) const {
  const auto found = weights_.find(name);
  return found == weights_.end() ? nullptr : &found->second;
}

std::vector<std::string> CompressedTensorsSource::names() const {
  std::vector<std::string> names;
  for (const auto& [name, info] : weights_) names.push_back(name);
  return names;
}

Tensor CompressedTensorsSource::read_codes(const std::string& linear, const LinearScheme& scheme,
                                           const std::vector<int64_t>& shape) const {
  const TensorBytes bytes = checkpoint_.read(linear + (scheme.packed ? kPackedWeight : kWeight));
  const int bits = scheme.weights.bits;
  if (scheme.packed) {
    const Tensor codes = unpack_words(as_tensor(bytes), shape.at(1), bits);
    checkpoint_.drop(bytes.info.name);
    return codes;
  }
  const Tensor codes = as_tensor(bytes).clone();
  checkpoint_.drop(bytes.info.name);
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
  const TensorBytes bytes = checkpoint_.read(linear + kWeightZero);
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

Weight CompressedTensorsSource::read(const std::string& name, Role role,
                                     const std::vector<int64_t>& shape) const {
  const std::string linear = without(name, kWeight);
  const auto found = in_codes_.find(linear);
  if (found == in_codes_.end()) return floats_.read(name, role, shape);
  const TensorInfo& info = weights_.at(name);
  if (info.shape != shape)
    throw Error(name, "has shape " + shape_text(info.shape) + " where the model needs " + shape_text(shape));
  const LinearScheme& scheme = *found->second;
  const std::vector<int64_t> scales = scheme.weights.scale_shape(shape.at(0), shape.at(1));
  const bool groups = scheme.weights.granularity == Granularity::kGroup;  // one of zeros may have any scale
  QuantizedTensor q;
  q.scheme = scheme.weights;
  if (device().is_meta()) {
    const at::TensorOptions on_meta = at::TensorOptions().device(at::kMeta);
    q.codes = at::empty(shape, on_meta.dtype(at::kChar));
    q.scale = at::empty(scales, on_meta.dtype(at::kFloat));
    if (!scheme.weights.symmetric) q.zero = at::empty(scales, on_meta.dtype(at::kChar));
  } else {
    q.codes = read_codes(linear, scheme, shape).to(device());
    q.scale = read_scales(checkpoint_, linear + kWeightScale, scales, groups).to(device());
    if (!scheme.weights.symmetric) q.zero = read_zero(linear, scheme, scales).to(device());
  }
  Weight weight;
  weight.name = name;
  weight.role = role;
  weight.set(std::move(q));
  return weight;
}

void CompressedTensorsSource::check_complete() const {
  const ListedSource shapes(*this);
  const std::unique_ptr<Model> model = find_architecture(shapes, checkpoint_.path()).make(shapes);
  std::map<std::string, const LinearScheme*> unread = in_codes_;
  for (int64_t i = 0; i < model->num_blocks(); ++i) {
    const std::unique_ptr<Block> block = model->load_block(i);
    for (const Linear* linear : block->linears()) {
      if (unread.erase(linear->name) > 0 || config_.scheme_of(linear->name) == nullptr) continue;
      throw Error(linear->name, "is stored in float, but a config group of quantization_config claims it",
                  "an entry of \"ignore\" if that is meant");
    }
  }
  for (const Weight* weight : model->outer_weights()) {
    const std::string linear = without(weight->name, kWeight);
    if (weight->role != Role::kHead || in_codes_.contains(linear) || config_.scheme_of(linear) == nullptr)
      continue;
    throw Error(weight->name, "is stored in float, but a config group of quantization_config claims it",
                "an entry of \"ignore\" if that is meant");
  }
  if (unread.empty()) return;
  throw Error(unread.begin()->first + kWeight, "is stored in codes, and is no linear of a block");
}

ActivationQuantizer CompressedTensorsSource::input_quantizer(const std::string& linear) const {
  const auto found = in_codes_.find(linear);
  if (found == in_codes_.end() || !found->second->inputs) return {};
  const ActivationScheme& inputs = *found->second->inputs;
  if (inputs.per_token) return ActivationQuantizer::per_token(inputs.bits, inputs.symmetric);
  const Tensor scale = read_scales(checkpoint_, linear + kInputScale, {1});
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
  source->check_complete();
  expect_all_read(find_architecture(*source, path), *source, path);
  const Model::OnLoad configure = [&source = *source](Block& block) { source.configure_sites(block); };
  return assemble_model(std::move(checkpoint), std::move(source), /*quantized=*/true, configure);
}

}  // namespace ptq
