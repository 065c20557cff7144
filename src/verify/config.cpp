// quantization_config against the tensors that are stored, and both against what the architecture asks for.
#include <algorithm>
#include <cmath>
#include <set>
#include <span>

#include "ptq/artifact/format.h"
#include "ptq/base/hash.h"
#include "ptq/model/listed_source.h"
#include "ptq/report/json_schema.h"
#include "verify/parts.h"

namespace ptq {
namespace {

constexpr const char* kSchemes = R"({
  "type": "object", "additionalProperties": false,
  "required": ["quant_method", "format_version", "recipe", "weights", "sites"],
  "properties": {
    "quant_method": {"enum": ["ptq"]},
    "format_version": {"enum": [1, 2, 3, 4]},
    "sha256": {"type": "string"},
    "recipe": {"type": "object"},
    "weights": {"type": "object", "additionalProperties": {
      "type": "object", "additionalProperties": false, "required": ["bits", "granularity", "symmetric"],
      "properties": {
        "bits": {"enum": [2, 3, 4, 6, 8]},
        "format": {"enum": ["integer", "mxint", "nf4"]},
        "granularity": {"enum": ["tensor", "channel", "group"]},
        "group": {"type": "integer", "minimum": 1, "maximum": 1e12},
        "symmetric": {"type": "boolean"},
        "scales": {"enum": ["F32"]},
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
        "channels": {"type": "integer", "minimum": 2, "maximum": 1e12},
        "hadamard": {"type": "object"},
        "smooth": {"type": "boolean"},
        "transform": {"type": "array", "items": {
          "type": "object", "required": ["type"],
          "properties": {"type": {"enum": ["hadamard", "rotation", "permutation", "signs"]}}}}}}}}})";

// The hash that the configuration states of itself: of its other entries, keys sorted, without blanks.
void check_hash(Subject& subject) {
  nlohmann::json rest = nlohmann::json::parse(subject.quantization.dump());
  const nlohmann::json stated = rest.value("sha256", nlohmann::json());
  rest.erase("sha256");
  const std::string text = rest.dump(), hash = sha256_hex(std::as_bytes(std::span(text)));
  if (stated != hash)
    subject.findings.add("config.json", "quantization_config has the SHA-256 " + hash + "; it says " +
                                            stated.dump() + " of itself");
}

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

void check_weight(Subject& subject, const std::string& name, const ListedSource::Asked& weight,
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
  if (!lists_all(subject) && given.contains("sha256"))
    subject.findings.add("config.json", "quantization_config has a hash, which its format version has not");
  if (lists_all(subject)) {
    check_hash(subject);
    if (!given.contains("corrections"))
      subject.findings.add("config.json", "quantization_config has no corrections");
  }
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
