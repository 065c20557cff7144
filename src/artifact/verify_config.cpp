// quantization_config against the tensors that are stored, and both against what the architecture asks for.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "artifact/format.h"
#include "artifact/verify_parts.h"
#include "ptq/model/listed_source.h"
#include "ptq/report/json_schema.h"

namespace ptq {
namespace {

constexpr double kOrthogonality = 1e-3;

constexpr const char* kSchemes = R"({
  "type": "object", "additionalProperties": false,
  "required": ["quant_method", "format_version", "recipe", "weights", "sites"],
  "properties": {
    "quant_method": {"enum": ["ptq"]},
    "format_version": {"enum": [1, 2, 3]},
    "recipe": {"type": "object"},
    "weights": {"type": "object", "additionalProperties": {
      "type": "object", "additionalProperties": false, "required": ["bits", "granularity", "symmetric"],
      "properties": {
        "bits": {"enum": [2, 3, 4, 6, 8]},
        "format": {"enum": ["integer", "mxint", "nf4"]},
        "granularity": {"enum": ["tensor", "channel", "group"]},
        "group": {"type": "integer", "minimum": 1, "maximum": 1e12},
        "symmetric": {"type": "boolean"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 1e12}}}}},
    "corrections": {"type": "object", "additionalProperties": {
      "type": "object", "additionalProperties": false, "required": ["rank"],
      "properties": {"rank": {"type": "integer", "minimum": 1, "maximum": 1e9}}}},
    "sites": {"type": "object", "additionalProperties": {
      "type": "object", "additionalProperties": false, "required": ["quantizer"],
      "properties": {
        "quantizer": {"enum": ["static", "dynamic", "none"]},
        "bits": {"type": "integer", "minimum": 2, "maximum": 8},
        "symmetric": {"type": "boolean"},
        "clip": {"type": "number", "minimum": 1e-9, "maximum": 1},
        "group": {"type": "integer", "minimum": 1, "maximum": 1e12},
        "hadamard": {"type": "object"},
        "transform": {"type": "array", "items": {
          "type": "object", "required": ["type"],
          "properties": {"type": {"enum": ["hadamard", "rotation", "permutation", "signs"]}}}}}}}}})";

// Name and shape of every weight, from the tensors and the schemes.
std::map<std::string, TensorInfo> logical_weights(const Subject& subject) {
  std::map<std::string, TensorInfo> infos;
  std::set<std::string> parts;
  const Json& schemes = subject.quantization.at("weights");
  for (const auto& [name, scheme] : schemes.items()) {
    for (const char* suffix : {kPackedSuffix, kScaleSuffix, kExponentSuffix, kZeroSuffix})
      parts.insert(name + suffix);
    const auto stored = subject.tensors.find(name), packed = subject.tensors.find(name + kPackedSuffix);
    if (scheme.contains("shape") && packed != subject.tensors.end()) {
      // A shape that the packed codes do not fit is said where they are decoded.
      const auto shape = scheme.at("shape").get<std::vector<int64_t>>();
      const std::vector<int64_t>& bytes = packed->second.shape;
      const bool fits = shape.size() == 2 && bytes.size() == 2 && shape[0] == bytes[0] &&
                        packed_bytes(shape[1], scheme.at("bits").get<int>()) == bytes[1];
      infos[name] = {name, DType::kU8, fits ? shape : bytes};
    } else if (stored != subject.tensors.end()) {
      infos[name] = {name, DType::kI8, stored->second.shape};
    }
  }
  for (const std::string& name : correction_tensors(subject)) parts.insert(name);
  for (const auto& [name, tensor] : subject.tensors) {
    if (parts.contains(name) || infos.contains(name) || name.find(".sites.") != std::string::npos) continue;
    infos[name] = {name, *dtype_from_name(tensor.dtype), tensor.shape};
  }
  return infos;
}

// The numbers of a site's tensor, if it has the form.
const ArtifactTensor* site_tensor(Subject& subject, const std::string& name, const char* dtype,
                                  size_t dimensions, std::vector<std::string>& used) {
  const ArtifactTensor* tensor = find_tensor(subject.tensors, name, used, subject.findings);
  if (tensor == nullptr || (tensor->dtype == dtype && tensor->shape.size() == dimensions)) return tensor;
  subject.findings.add(name, "is " + tensor->dtype + " " + shape_text(tensor->shape) + " where " + dtype +
                                 " of " + std::to_string(dimensions) + " dimensions is needed");
  return nullptr;
}

Tensor float_tensor(const ArtifactTensor& tensor) {
  Tensor values = at::empty(tensor.shape, at::kFloat);
  read_floats(tensor, 0, tensor.values, values.mutable_data_ptr<float>());
  return values;
}

bool add_permutation(Subject& subject, const std::string& name, Transform& transform,
                     std::vector<std::string>& used) {
  const ArtifactTensor* tensor = site_tensor(subject, name, "I32", 1, used);
  if (tensor == nullptr) return false;
  Tensor index = at::empty(tensor->shape, at::kLong);
  auto* out = index.mutable_data_ptr<int64_t>();
  std::vector<bool> seen(static_cast<size_t>(tensor->values));
  bool valid = true;
  for (int64_t i = 0; i < tensor->values; ++i) {
    int32_t value = 0;
    std::memcpy(&value, tensor->data() + 4 * i, sizeof(value));
    valid = valid && value >= 0 && value < tensor->values && !seen[static_cast<size_t>(value)];
    if (valid) seen[static_cast<size_t>(value)] = true;
    out[i] = value;
  }
  if (!valid)
    subject.findings.add(name, "is no permutation of its " + std::to_string(tensor->values) + " channels");
  transform.stages.emplace_back(Permutation{index});
  return valid;
}

bool add_signs(Subject& subject, const std::string& name, Transform& transform,
               std::vector<std::string>& used) {
  const ArtifactTensor* tensor = site_tensor(subject, name, "I8", 1, used);
  if (tensor == nullptr) return false;
  Tensor values = at::empty(tensor->shape, at::kFloat);
  bool valid = true;
  for (int64_t i = 0; i < tensor->values; ++i) {
    const int sign = static_cast<int8_t>(tensor->data()[i]);
    valid = valid && (sign == 1 || sign == -1);
    values.mutable_data_ptr<float>()[i] = static_cast<float>(sign);
  }
  if (!valid) subject.findings.add(name, "has entries other than +1 and -1");
  transform.stages.emplace_back(Signs{values});
  return valid;
}

// The rotations of a site lie in one tensor, in order.
bool add_rotation(Subject& subject, const std::string& name, int64_t index, Transform& transform,
                  std::vector<std::string>& used) {
  const ArtifactTensor* tensor = site_tensor(subject, name, "F32", 3, used);
  if (tensor == nullptr) return false;
  if (tensor->shape[1] != tensor->shape[2] || index >= tensor->shape[0]) {
    subject.findings.add(name, "has shape " + shape_text(tensor->shape) + "; rotation " +
                                   std::to_string(index) + " of a site is wanted");
    return false;
  }
  const BlockRotation rotation{float_tensor(*tensor)[index].contiguous()};
  transform.stages.emplace_back(rotation);
  const double error = Transform{{rotation}}.orthogonality_error();
  if (error < kOrthogonality) return true;
  subject.findings.add(name, "rotation " + std::to_string(index) + " is not orthogonal: R R^T is off by " +
                                 std::to_string(error));
  return false;
}

// The stages of a site. Returns false, with findings, if one is not what it must be.
bool read_stages(Subject& subject, const std::string& key, const Json& json, Transform& transform,
                 std::vector<std::string>& used) {
  Json stages = json.value("transform", Json::array());
  if (json.contains("hadamard")) {  // version 1
    stages.push_back(json.at("hadamard"));
    stages.back()["type"] = "hadamard";
  }
  int64_t rotations = 0, permutations = 0, signs = 0;
  const auto numbered = [&](const char* suffix, int64_t index) {
    return key + suffix + (index == 0 ? "" : "_" + std::to_string(index));
  };
  bool valid = true;
  for (Json stage : stages) {
    const std::string type = stage.at("type").get<std::string>();
    stage.erase("type");
    if (type == "hadamard") {
      valid = subject.findings.guard(key, [&] {
        transform.stages.emplace_back(hadamard_from_json(stage, key));
      }) && valid;
    } else if (type == "rotation") {
      valid = add_rotation(subject, key + ".rotation", rotations++, transform, used) && valid;
    } else if (type == "permutation") {
      valid = add_permutation(subject, numbered(".permutation", permutations++), transform, used) && valid;
    } else {
      valid = add_signs(subject, numbered(".signs", signs++), transform, used) && valid;
    }
  }
  const auto stored = subject.tensors.find(key + ".rotation");
  if (rotations > 0 && stored != subject.tensors.end() && !stored->second.shape.empty() &&
      stored->second.shape[0] != rotations) {
    subject.findings.add(key + ".rotation", "has " + std::to_string(stored->second.shape[0]) +
                                                " rotations; the configuration names " +
                                                std::to_string(rotations));
  }
  return valid;
}

int64_t channels_read(Block& block, const Site& site, bool& by_linear) {
  for (const Linear* linear : block.linears()) {
    if (linear->site != site.name) continue;
    by_linear = true;
    return linear->weight.value.size(1);
  }
  by_linear = false;
  return site.head;
}

bool is_positive(const Tensor& values) {
  return (at::isfinite(values) & (values > 0)).all().item<bool>();
}

void check_site(Subject& subject, Block& block, const Site& site, Listing& listing,
                std::vector<std::string>& used) {
  const std::string key = site_key(block.prefix(), site.name);
  const Json& sites = subject.quantization.at("sites");
  if (!sites.contains(key)) return;
  const Json& json = sites.at(key);
  ++subject.counts.sites;
  SiteForm& form = listing.sites[key];
  if (json.at("quantizer") == "static") {
    const ArtifactTensor* scale = site_tensor(subject, key + ".scale", "F32", 1, used);
    if (scale != nullptr && (scale->values != 1 || !is_positive(float_tensor(*scale))))
      subject.findings.add(key + ".scale", "is not one positive and finite number");
  }
  if (json.at("quantizer") != "none" && !json.contains("bits")) subject.findings.add(key, "has no bits");
  if (json.contains("group") && json.at("group") != site.head)
    subject.findings.add(key, "rounds groups of " + json.at("group").dump() + " where heads have " +
                                  std::to_string(site.head));
  bool by_linear = false;
  const int64_t channels = channels_read(block, site, by_linear);
  if (!read_stages(subject, key, json, form.transform, used)) form.transform.stages.clear();
  const bool placed = (by_linear && !site.shared) || site.head > 0;
  if (!form.transform.empty() && (!placed || !form.transform.fits(channels))) {
    subject.findings.add(key, "the transform (" + transform_text(form.transform) + ") does not fit the site");
    form.transform.stages.clear();
  }
  if (!subject.tensors.contains(key + ".smooth")) return;
  const ArtifactTensor* smooth = site_tensor(subject, key + ".smooth", "F32", 1, used);
  if (smooth == nullptr) return;
  const Tensor values = float_tensor(*smooth);
  if (smooth->values != channels || !is_positive(values)) {
    subject.findings.add(key + ".smooth", "is not one positive and finite number for each of " +
                                              std::to_string(channels) + " channels");
    return;
  }
  form.smooth = values;
}

void check_float(Subject& subject, const std::string& name, std::vector<std::string>& used) {
  const auto found = subject.tensors.find(name);
  if (found == subject.tensors.end()) return;  // said by the source
  used.push_back(name);
  const ArtifactTensor& tensor = found->second;
  if (tensor.dtype != "F32" && tensor.dtype != "F16" && tensor.dtype != "BF16") {
    subject.findings.add(name, "is " + tensor.dtype + " and has no scheme: neither floats nor codes");
    return;
  }
  int64_t bad = 0;
  const int64_t item = tensor.dtype == "F32" ? 4 : 2;
  for (int64_t i = 0; i < tensor.values; ++i)
    bad += std::isfinite(float_at(tensor.dtype, tensor.data() + i * item)) ? 0 : 1;
  if (bad > 0) {
    subject.findings.add(
        name, std::to_string(bad) + " of " + std::to_string(tensor.values) + " values are NaN or infinite");
  }
  tensor.drop();
}

void check_weight(Subject& subject, const std::string& name, const ListedWeight& weight,
                  std::vector<std::string>& used) {
  const Json& schemes = subject.quantization.at("weights");
  if (!schemes.contains(name)) {
    ++subject.counts.weights_in_float;
    check_float(subject, name, used);
    return;
  }
  ++subject.counts.weights_in_codes;
  const auto decoder = WeightDecoder::open(subject, name, schemes.at(name), weight.shape, used);
  if (decoder) decoder->drop();
}

// What is stored or configured and belongs to nothing.
void check_extra(Subject& subject, const Listing& listing, const std::vector<std::string>& used) {
  const std::set<std::string> known(used.begin(), used.end());
  for (const auto& [name, tensor] : subject.tensors) {
    if (!known.contains(name))
      subject.findings.add(name,
                           "is stored, and neither the architecture nor quantization_config asks for it");
  }
  for (const auto& [name, scheme] : subject.quantization.at("weights").items()) {
    if (!listing.weights.contains(name))
      subject.findings.add(name, "has a scheme, and the architecture has no such weight");
  }
  for (const auto& [key, site] : subject.quantization.at("sites").items()) {
    if (!listing.sites.contains(key))
      subject.findings.add(key, "is configured, and the architecture has no such site");
  }
  for (const auto& [name, json] : corrections_of(subject).items()) {
    if (!listing.weight_of_layer.contains(name))
      subject.findings.add(name, "has a correction, and the architecture has no such layer");
  }
}

}  // namespace

std::optional<Listing> check_contents(Subject& subject) {
  if (subject.config.is_null()) return std::nullopt;
  const Json given = subject.config.value("quantization_config", Json());
  const std::vector<std::string> errors = schema_errors(parse_json(kSchemes, "schema"), given);
  for (const std::string& error : errors) subject.findings.add("config.json", "quantization_config " + error);
  if (!errors.empty()) return std::nullopt;
  subject.quantization = given;
  Listing listing;
  std::vector<std::string> used;
  const bool whole = subject.findings.guard("config.json", [&] {
    const ListedSource source(subject.config, logical_weights(subject));
    const ArchitectureEntry& entry = find_architecture(source, subject.directory);
    const std::unique_ptr<Model> model = entry.make(source);
    listing.architecture = entry.name;
    listing.num_blocks = model->num_blocks();
    for (int64_t i = 0; i < model->num_blocks(); ++i) {
      const std::unique_ptr<Block> block = model->load_block(i);
      for (const Linear* linear : block->linears())
        listing.weight_of_layer[linear->name] = linear->weight.name;
      for (const Linear* linear : block->linears()) check_correction(subject, *linear, used);
      for (const Site* site : block->sites()) check_site(subject, *block, *site, listing, used);
    }
    listing.weights = source.asked();
  });
  if (!whole) return std::nullopt;
  for (const auto& [name, weight] : listing.weights) check_weight(subject, name, weight, used);
  check_extra(subject, listing, used);
  return listing;
}

}  // namespace ptq
