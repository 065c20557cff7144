#include "ptq/artifact/layout.h"

#include "artifact/transform_io.h"
#include "ptq/artifact/format.h"
#include "ptq/base/error.h"
#include "ptq/base/file.h"
#include "ptq/base/hash.h"
#include "ptq/codec/packing.h"

namespace ptq {
namespace {

constexpr const char* kConfigFile = "config.json";

}  // namespace

std::string config_hash(const Json& quantization_config) {
  nlohmann::json sorted = nlohmann::json::parse(quantization_config.dump());
  sorted.erase("sha256");
  const std::string text = sorted.dump();
  return sha256_hex(std::as_bytes(std::span(text)));
}

ArtifactLayout::ArtifactLayout(int64_t max_shard_bytes, const std::string& spool_path, const Json& state)
    : ArtifactLayout(max_shard_bytes, spool_path, JsonFields(state, "writer")) {}

ArtifactLayout::ArtifactLayout(int64_t max_shard_bytes, const std::string& spool_path, JsonFields fields)
    : spool_(max_shard_bytes, spool_path, fields.at("spool")),
      weights_(fields.at("weights")),
      corrections_(fields.at("corrections")),
      sites_(fields.at("sites")) {
  fields.finish(ExitCode::kFailed);
  if (!weights_.is_object() || !corrections_.is_object() || !sites_.is_object())
    throw Error(spool_path, "has no list of its weights");
}

void ArtifactLayout::add(const Weight& weight) {
  if (!weight.quantized()) {
    spool_.add(weight.name, weight.values().to(weight.stored));
    return;
  }
  const QuantizedTensor& q = *weight.quantized();
  if (q.scheme.is_packed()) {
    spool_.add(weight.name + kPackedSuffix, pack_codes(q.codes, q.scheme));
  } else {
    spool_.add(weight.name, q.codes);
  }
  if (q.scheme.format == NumberFormat::kMxint) {
    spool_.add(weight.name + kExponentSuffix, pack_exponents(q.scale, q.scheme.bits));
  } else {
    spool_.add(weight.name + kScaleSuffix, q.scheme.half_scales ? q.scale.to(at::kHalf) : q.scale);
  }
  if (q.zero.defined()) {
    const int64_t lowest = int64_t{1} << (q.scheme.bits - 1);
    spool_.add(weight.name + kZeroSuffix, (q.zero.to(at::kInt) + lowest).to(at::kByte));
  }
  Json scheme = {{"bits", q.scheme.bits},
                 {"granularity", granularity_name(q.scheme.granularity)},
                 {"symmetric", q.scheme.symmetric}};
  if (q.scheme.format != NumberFormat::kInteger) scheme["format"] = number_format_name(q.scheme.format);
  if (q.scheme.granularity == Granularity::kGroup) scheme["group"] = q.scheme.group;
  const bool integer_groups =
      q.scheme.format == NumberFormat::kInteger && q.scheme.granularity == Granularity::kGroup;
  if (integer_groups && !q.scheme.half_scales) scheme["scales"] = "F32";
  if (q.scheme.is_packed()) scheme["shape"] = q.codes.sizes().vec();
  weights_[weight.name] = scheme;
}

void ArtifactLayout::add(const Linear& linear) {
  const LowRank& correction = *linear.correction;
  corrections_[linear.name] = {{"rank", correction.rank()}};
  const auto add_factor = [&](const std::string& name, const Tensor& values, const Tensor& scale) {
    if (!scale.defined()) {
      spool_.add(name, values.to(correction.stored));
      return;
    }
    const bool by_row = name.ends_with(kLoraASuffix);
    spool_.add(name, (values / (by_row ? scale.unsqueeze(1) : scale)).round().to(at::kChar));
    spool_.add(name + kScaleSuffix, scale);
  };
  add_factor(linear.name + kLoraASuffix, correction.A, correction.A_scale);
  add_factor(linear.name + kLoraBSuffix, correction.B, correction.B_scale);
}

void ArtifactLayout::add(Block& block) {
  for (const Weight* weight : block.weights()) add(*weight);
  for (const Linear* linear : block.linears()) {
    if (linear->correction) add(*linear);
  }
  for (const Site* site : block.sites()) {
    const ActivationQuantizer& quantizer = site->quantizer;
    const bool rounds = quantizer.kind != ActivationQuantizer::Kind::kNone;
    if (!site->is_listed()) continue;
    const std::string key = site_key(block.prefix(), site->name);
    Json json = {{"quantizer", quantizer.kind_name()}};
    if (rounds) json["bits"] = quantizer.bits;
    if (quantizer.scale.defined() && quantizer.scale.numel() > 1) json["channels"] = quantizer.scale.numel();
    if (quantizer.kind == ActivationQuantizer::Kind::kStatic) spool_.add(key + ".scale", quantizer.scale);
    if (quantizer.kind == ActivationQuantizer::Kind::kDynamic) {
      json["symmetric"] = quantizer.symmetric;
      json["clip"] = quantizer.clip;
      if (quantizer.group > 0) json["group"] = quantizer.group;
    }
    json["smooth"] = site->smooth.defined();
    if (site->smooth.defined()) spool_.add(key + ".smooth", site->smooth);
    json["transform"] =
        write_transform(site->transform, key,
                        [&](const std::string& name, const Tensor& tensor) { spool_.add(name, tensor); });
    sites_[key] = json;
  }
}

Json ArtifactLayout::flush() {
  spool_.flush();
  return state();
}

Json ArtifactLayout::state() const {
  return {{"spool", spool_.state()}, {"weights", weights_}, {"corrections", corrections_}, {"sites", sites_}};
}

std::string ArtifactLayout::config_text(const Json& config, const Json& recipe) const {
  Json quantization = {{"quant_method", kQuantMethod},
                       {"format_version", kFormatVersion},
                       {"sha256", ""},
                       {"recipe", recipe},
                       {"weights", weights_},
                       {"corrections", corrections_},
                       {"sites", sites_}};
  quantization["sha256"] = config_hash(quantization);
  Json document = config;
  document["quantization_config"] = quantization;
  return python_json_text(document, 1) + "\n";
}

std::map<std::string, std::string> ArtifactLayout::text_files(const Json& config, const Json& recipe) const {
  std::map<std::string, std::string> files = {{kConfigFile, config_text(config, recipe)}};
  const std::string index = spool_.index();
  if (!index.empty()) files["model.safetensors.index.json"] = index;
  return files;
}

std::vector<std::string> ArtifactLayout::write(OutputDirectory& output, const Json& config,
                                               const Json& recipe) {
  std::vector<std::string> names = spool_.write(output);
  write_file(output.path(kConfigFile), config_text(config, recipe));
  return names;
}

}  // namespace ptq
