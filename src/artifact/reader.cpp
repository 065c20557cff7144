#include "artifact/reader.h"

#include <cmath>

#include "artifact/entry_checks.h"
#include "ptq/artifact/format.h"
#include "ptq/artifact/open_model.h"
#include "ptq/base/error.h"
#include "ptq/base/suggest.h"
#include "ptq/codec/packing.h"

namespace ptq {
namespace {

WeightScheme scheme_from_json(const Json& json, const std::string& where, int64_t version,
                              std::vector<int64_t>& shape) {
  JsonFields fields(json, where);
  if (version > 1) fields.at("symmetric");
  WeightScheme scheme;
  scheme.bits = static_cast<int>(fields.integer("bits", 0));
  const std::string granularity = fields.string("granularity", "");
  scheme.granularity = granularity == "tensor"    ? Granularity::kTensor
                       : granularity == "channel" ? Granularity::kChannel
                                                  : Granularity::kGroup;
  scheme.group = fields.integer("group", 0);
  scheme.symmetric = fields.boolean("symmetric", true);
  const std::string format = fields.string("format", "integer");
  for (const NumberFormat known : {NumberFormat::kMxint, NumberFormat::kNf4}) {
    if (format == number_format_name(known)) scheme.format = known;
  }
  const bool integer = scheme.format == NumberFormat::kInteger;
  const bool integer_groups = integer && scheme.granularity == Granularity::kGroup;
  const std::string scales = fields.string("scales", "");
  scheme.half_scales = integer_groups && scales.empty();
  if (fields.has("shape")) {
    for (const Json& size : fields.at("shape")) {
      if (!size.is_number_integer() || size.get<int64_t>() <= 0 || size.get<int64_t>() > (int64_t{1} << 40)) {
        throw Error(where, "the shape " + fields.at("shape").dump() + " is not one of a weight");
      }
      shape.push_back(size.get<int64_t>());
    }
  }
  fields.finish(ExitCode::kFailed);
  const bool bits_known = scheme.format == NumberFormat::kNf4
                              ? scheme.bits == 4
                              : scheme.bits >= 2 && scheme.bits <= 8 && scheme.bits != 5 && scheme.bits != 7;
  const bool known =
      bits_known && (!integer || format == "integer") &&
      (granularity == "tensor" || granularity == "channel" || granularity == "group") &&
      (scheme.granularity == Granularity::kGroup ? scheme.group > 0 : !json.contains("group")) &&
      (scales.empty() || (integer_groups && scales == "F32")) &&
      (integer || (scheme.granularity == Granularity::kGroup && scheme.symmetric)) &&
      (scheme.is_packed() ? shape.size() == 2 : !json.contains("shape"));
  if (!known) throw Error(where, "the scheme " + json.dump() + " is not one this program reads");
  return scheme;
}

// Codes and scales without values, on the meta device.
QuantizedTensor shapes_of_quantized(const WeightScheme& scheme, const std::vector<int64_t>& shape) {
  const at::TensorOptions on_meta = at::TensorOptions().device(at::kMeta);
  const std::vector<int64_t> scales = scheme.scale_shape(shape.at(0), shape.size() > 1 ? shape[1] : 1);
  QuantizedTensor q;
  q.scheme = scheme;
  q.codes = at::empty(shape, on_meta.dtype(at::kChar));
  q.scale = at::empty(scales, on_meta.dtype(at::kFloat));
  if (!scheme.symmetric) q.zero = at::empty(scales, on_meta.dtype(at::kChar));
  return q;
}

void expect_form(const TensorInfo& info, DType dtype, const std::vector<int64_t>& shape) {
  if (info.dtype == dtype && info.shape == shape) return;
  throw Error(info.name, std::string("is ") + dtype_name(info.dtype) + " " + shape_text(info.shape) +
                             " where the scheme needs " + dtype_name(dtype) + " " + shape_text(shape));
}

}  // namespace

ArtifactSource::ArtifactSource(const Checkpoint& checkpoint, at::Device device)
    : checkpoint_(checkpoint), floats_(checkpoint, device, Floats::kStored) {
  const std::string where = checkpoint.path() + ": quantization_config";
  JsonFields fields(checkpoint.config().at("quantization_config"), where);
  fields.has("quant_method");
  version_ = fields.integer("format_version", 0);
  if (version_ < 1 || version_ > kFormatVersion) {
    throw Error(where, "the format version is " + std::to_string(version_) + "; this program reads 1 to " +
                           std::to_string(kFormatVersion));
  }
  const auto object_at = [&](const char* key) {
    const Json& value = fields.at(key);
    if (value.is_object()) return value;
    throw Error(where + "." + key, std::string("expected an object, found ") + value.type_name());
  };
  if (version_ >= kListsAll) {
    fields.at("sha256");
    sha256_ = fields.string("sha256", "");
  }
  recipe_ = object_at("recipe");
  sites_ = object_at("sites");
  corrections_ = version_ >= 3 ? object_at("corrections") : Json::object();
  for (const TensorInfo& info : checkpoint.tensors()) {
    if (info.name.find(".sites.") == std::string::npos) weights_[info.name] = info;
  }
  read_schemes(object_at("weights"), where + ".weights.");
  for (const auto& [name, json] : corrections_.items()) {
    for (const std::string factor : {kLoraASuffix, kLoraBSuffix}) {
      weights_.erase(name + factor);
      weights_.erase(name + factor + kScaleSuffix);
    }
  }
  fields.finish(ExitCode::kFailed);
}

void ArtifactSource::read_schemes(const Json& weights, const std::string& where) {
  for (const auto& [name, json] : weights.items()) {
    std::vector<int64_t> shape;
    const WeightScheme scheme = scheme_from_json(json, where + name, version_, shape);
    const std::string stored = scheme.is_packed() ? name + kPackedSuffix : name;
    const auto found = weights_.find(stored);
    if (found == weights_.end()) throw Error(stored, "the tensor is missing from the artifact");
    TensorInfo info = found->second;
    info.name = name;
    if (scheme.is_packed()) info.shape = shape;
    weights_.erase(stored);
    for (const char* suffix : {kScaleSuffix, kExponentSuffix, kZeroSuffix}) weights_.erase(name + suffix);
    weights_[name] = info;
    schemes_[name] = scheme;
  }
}

const TensorInfo* ArtifactSource::find(const std::string& name) const {
  const auto found = weights_.find(name);
  return found == weights_.end() ? nullptr : &found->second;
}

std::vector<std::string> ArtifactSource::names() const {
  std::vector<std::string> names;
  for (const auto& [name, info] : weights_) names.push_back(name);
  return names;
}

Tensor ArtifactSource::read_scale(const std::string& name, const WeightScheme& scheme,
                                  const std::vector<int64_t>& shape) const {
  const int64_t columns = shape.size() > 1 ? shape[1] : 1;
  const std::vector<int64_t> expected = scheme.scale_shape(shape.at(0), columns);
  if (scheme.format == NumberFormat::kMxint) {
    const TensorBytes exponents = checkpoint_.read(name + kExponentSuffix);
    expect_form(exponents.info, DType::kU8, expected);
    const Tensor stored = as_tensor(exponents);
    const auto low = stored.min().item<int64_t>(), high = stored.max().item<int64_t>();
    if (low < 1 || high > 254) {
      throw Error(exponents.info.name, "has exponents from " + std::to_string(low) + " to " +
                                           std::to_string(high) + "; 1 to 254 stand for floats");
    }
    return unpack_exponents(stored, scheme.bits).to(device());
  }
  const TensorBytes bytes = checkpoint_.read(name + kScaleSuffix);
  const DType dtype = scheme.half_scales ? DType::kF16 : DType::kF32;
  expect_form(bytes.info, dtype, expected);
  const Tensor scale = as_tensor(bytes).to(device(), at::kFloat, /*non_blocking=*/false, /*copy=*/true);
  check_positive(scale, bytes.info.name, /*zero_allowed=*/scheme.granularity == Granularity::kGroup);
  return scale;
}

Tensor ArtifactSource::read_zero(const std::string& name, const WeightScheme& scheme,
                                 const std::vector<int64_t>& shape) const {
  const TensorBytes bytes = checkpoint_.read(name + kZeroSuffix);
  expect_form(bytes.info, DType::kU8, shape);
  const Tensor zero = as_tensor(bytes).to(at::kInt);
  const int64_t codes = int64_t{1} << scheme.bits;
  if (zero.max().item<int64_t>() >= codes) {
    throw Error(bytes.info.name, "has the zero point " + std::to_string(zero.max().item<int64_t>()) +
                                     "; there are " + std::to_string(codes) + " codes");
  }
  return (zero - codes / 2).to(at::TensorOptions().dtype(at::kChar).device(device()));
}

// Codes that the scheme cannot have would be read as values it cannot have.
void ArtifactSource::check_codes(const QuantizedTensor& q, const std::string& name) {
  if (q.scheme.bits == 8 || q.scheme.is_packed()) return;  // every byte and field is a code
  const auto low = q.codes.min().item<int64_t>(), high = q.codes.max().item<int64_t>();
  if (low < q.scheme.low() || high > q.scheme.high()) {
    throw Error(name, "has codes from " + std::to_string(low) + " to " + std::to_string(high) + "; " +
                          std::to_string(q.scheme.bits) + " bits hold " + std::to_string(q.scheme.low()) +
                          " to " + std::to_string(q.scheme.high()));
  }
}

Weight ArtifactSource::read(const std::string& name, Role role, const std::vector<int64_t>& shape) const {
  const auto scheme = schemes_.find(name);
  if (scheme == schemes_.end()) return floats_.read(name, role, shape);
  const TensorInfo& info = weights_.at(name);
  if (info.shape != shape) {
    throw Error(name, "has shape " + shape_text(info.shape) + " where the model needs " + shape_text(shape));
  }
  const bool packed = scheme->second.is_packed();
  const TensorBytes bytes = checkpoint_.read(packed ? name + kPackedSuffix : name);
  const DType dtype = packed ? DType::kU8 : DType::kI8;
  const std::vector<int64_t> stored =
      packed ? std::vector<int64_t>{shape.at(0), packed_row_bytes(shape.at(1), scheme->second.bits)} : shape;
  expect_form(bytes.info, dtype, stored);
  QuantizedTensor q;
  if (device().is_meta()) {
    q = shapes_of_quantized(scheme->second, shape);
  } else {
    q.scheme = scheme->second;
    const Tensor codes =
        as_tensor(bytes).to(device(), dtype == DType::kU8 ? at::kByte : at::kChar, false, /*copy=*/true);
    q.codes = packed ? unpack_codes(codes, shape.at(1), q.scheme) : codes;
    check_codes(q, bytes.info.name);
    q.scale = read_scale(name, q.scheme, shape);
    if (!q.scheme.symmetric) q.zero = read_zero(name, q.scheme, q.scale.sizes().vec());
    checkpoint_.drop(bytes.info.name);
  }
  Weight weight;
  weight.name = name;
  weight.role = role;
  weight.set(std::move(q));
  return weight;
}

Tensor ArtifactSource::read_factor(const std::string& name, const std::vector<int64_t>& shape, DType dtype,
                                   int64_t rank_dim, Tensor& scale) const {
  const TensorBytes bytes = checkpoint_.read(name);
  expect_form(bytes.info, dtype, shape);
  const int64_t rank = shape.at(static_cast<size_t>(rank_dim));
  if (device().is_meta()) {
    const at::TensorOptions on_meta = at::TensorOptions().device(at::kMeta).dtype(at::kFloat);
    if (dtype == DType::kI8) scale = at::empty({rank}, on_meta);
    return at::empty(shape, on_meta);
  }
  const Tensor values = as_tensor(bytes).to(device(), at::kFloat, /*non_blocking=*/false, /*copy=*/true);
  if (!at::isfinite(values).all().item<bool>()) throw Error(name, "has values that are NaN or infinite");
  if (dtype != DType::kI8) return values;
  scale = floats_.read(name + kScaleSuffix, Role::kNorm, {rank}).values();
  check_positive(scale, name + kScaleSuffix);
  return values * (rank_dim == 0 ? scale.unsqueeze(1) : scale);
}

void ArtifactSource::configure_corrections(Block& block) const {
  for (Linear* linear : block.linears()) {
    if (!corrections_.contains(linear->name)) continue;
    const std::string A = linear->name + kLoraASuffix, B = linear->name + kLoraBSuffix;
    JsonFields fields(corrections_.at(linear->name), "corrections." + linear->name);
    const int64_t rank = fields.integer("rank", 0);
    fields.finish(ExitCode::kFailed);
    const TensorInfo* info = checkpoint_.find(A);
    if (info == nullptr) throw Error(A, "the tensor is missing from the artifact");
    const int64_t out = linear->weight.size(0), in = linear->weight.size(1);
    if (rank < 1 || rank > std::max(out, in)) {
      throw Error(A,
                  "a correction of rank " + std::to_string(rank) + " of a matrix " + shape_text({out, in}));
    }
    const DType dtype = info->dtype;
    if (dtype != DType::kBF16 && dtype != DType::kF16 && dtype != DType::kF32 && dtype != DType::kI8) {
      throw Error(A, std::string("is ") + dtype_name(dtype) + "; a correction is BF16, F16, F32 or I8");
    }
    LowRank correction;
    correction.stored = scalar_type(dtype, A);
    correction.A = read_factor(A, {rank, in}, dtype, 0, correction.A_scale);
    correction.B = read_factor(B, {out, rank}, dtype, 1, correction.B_scale);
    linear->correction = std::move(correction);
  }
}

bool is_artifact(const Checkpoint& checkpoint) {
  const Json& config = checkpoint.config();
  if (!config.is_object() || config.value("quantization_config", Json()).is_null()) return false;
  JsonFields fields(config.at("quantization_config"), checkpoint.path() + ": quantization_config");
  const std::string method = fields.string("quant_method", "");
  if (method == kQuantMethod) return true;
  throw Error(checkpoint.path(), "is already quantized, by another program (quant_method \"" + method + "\")",
              "the float checkpoint it was made from");
}

std::unique_ptr<WeightSource> make_source(const Checkpoint& checkpoint, at::Device device) {
  if (is_artifact(checkpoint)) return std::make_unique<ArtifactSource>(checkpoint, device);
  return std::make_unique<FloatSource>(checkpoint, device);
}

OpenModel assemble_model(std::unique_ptr<Checkpoint> checkpoint, std::unique_ptr<WeightSource> source,
                         bool quantized, const Model::OnLoad& on_load) {
  OpenModel open;
  open.checkpoint = std::move(checkpoint);
  open.source = std::move(source);
  open.architecture = &find_architecture(*open.source, open.checkpoint->path());
  open.quantized = quantized;
  if (!quantized) expect_all_read(*open.architecture, *open.source, open.checkpoint->path());
  open.model = open.architecture->make(*open.source, on_load);
  return open;
}

OpenModel open_model(std::unique_ptr<Checkpoint> checkpoint, at::Device device) {
  if (!is_artifact(*checkpoint)) {
    auto floats = std::make_unique<FloatSource>(*checkpoint, device, Floats::kStored);
    return assemble_model(std::move(checkpoint), std::move(floats), /*quantized=*/false);
  }
  auto artifact = std::make_unique<ArtifactSource>(*checkpoint, device);
  artifact->check_complete();
  const Model::OnLoad configure = [&source = *artifact](Block& block) {
    source.configure_sites(block);
    source.configure_corrections(block);
  };
  return assemble_model(std::move(checkpoint), std::move(artifact), /*quantized=*/true, configure);
}

OpenModel open_model(const std::string& path, const CheckpointOptions& options, at::Device device) {
  return open_model(open_checkpoint(path, options), device);
}

}  // namespace ptq
