#include "ptq/artifact/layout.h"

#include <algorithm>
#include <array>

#include "artifact/transform_io.h"
#include "ptq/artifact/format.h"
#include "ptq/base/error.h"
#include "ptq/base/hash.h"
#include "ptq/codec/packing.h"

namespace ptq {
namespace {

struct StoredType {
  at::ScalarType type;
  const char* name;
};
constexpr StoredType kStoredTypes[] = {{at::kFloat, "F32"}, {at::kHalf, "F16"}, {at::kBFloat16, "BF16"},
                                       {at::kChar, "I8"},   {at::kByte, "U8"},  {at::kInt, "I32"}};

const char* safetensors_dtype(at::ScalarType type) {
  for (const StoredType& stored : kStoredTypes) {
    if (stored.type == type) return stored.name;
  }
  throw Error("artifact", std::string("cannot store the dtype ") + at::toString(type), "", ExitCode::kBug);
}

const StoredType& stored_type(const std::string& name, const std::string& where) {
  for (const StoredType& stored : kStoredTypes) {
    if (name == stored.name) return stored;
  }
  throw Error(where, "\"" + name + "\" is not a type of a stored tensor");
}

std::string shard_name(const std::string& stem, size_t index, size_t count) {
  if (count == 1) return stem + ".safetensors";
  std::array<char, 64> name{};
  std::snprintf(name.data(), name.size(), "-%05zu-of-%05zu.safetensors", index + 1, count);
  return stem + name.data();
}

// The bytes in front of the data: the header's length, 8 bytes, and the header, padded to a multiple of 8.
std::string header_of(const std::vector<ArtifactLayout::Entry>& entries) {
  Json header = {{"__metadata__", {{"format", "pt"}}}};
  int64_t offset = 0;
  for (const ArtifactLayout::Entry& entry : entries) {
    header[entry.name] = {
        {"dtype", entry.dtype}, {"shape", entry.shape}, {"data_offsets", {offset, offset + entry.bytes}}};
    offset += entry.bytes;
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  const uint64_t length = text.size();
  std::string length_bytes(8, '\0');
  for (size_t i = 0; i < 8; ++i) length_bytes[i] = static_cast<char>(length >> (8 * i));
  return length_bytes + text;
}

}  // namespace

std::string config_hash(const Json& quantization_config) {
  nlohmann::json sorted = nlohmann::json::parse(quantization_config.dump());
  sorted.erase("sha256");
  const std::string text = sorted.dump();
  return sha256_hex(std::as_bytes(std::span(text)));
}

int64_t ArtifactLayout::WeightFile::bytes() const {
  int64_t sum = static_cast<int64_t>(header.size());
  for (const Entry& entry : entries) sum += entry.bytes;
  return sum;
}

void ArtifactLayout::add_tensor(const std::string& name, const Tensor& tensor, const Sink& sink) {
  const auto bytes = static_cast<int64_t>(tensor.numel() * tensor.element_size());
  entries_.push_back({name, safetensors_dtype(tensor.scalar_type()), tensor.element_size(),
                      tensor.sizes().vec(), tensor_bytes_, bytes});
  tensor_bytes_ += bytes;
  if (sink) sink(tensor);
}

void ArtifactLayout::add(const Weight& weight, const Sink& sink) {
  if (!weight.quantized) {
    add_tensor(weight.name, weight.value.to(weight.stored), sink);
    return;
  }
  const QuantizedTensor& q = *weight.quantized;
  if (q.scheme.is_packed()) {
    add_tensor(weight.name + kPackedSuffix, pack_codes(q.codes, q.scheme), sink);
  } else {
    add_tensor(weight.name, q.codes, sink);
  }
  if (q.scheme.format == NumberFormat::kMxint) {
    add_tensor(weight.name + kExponentSuffix, pack_exponents(q.scale, q.scheme.bits), sink);
  } else {
    add_tensor(weight.name + kScaleSuffix, q.scheme.half_scales ? q.scale.to(at::kHalf) : q.scale, sink);
  }
  if (q.zero.defined()) {
    const int64_t lowest = int64_t{1} << (q.scheme.bits - 1);
    add_tensor(weight.name + kZeroSuffix, (q.zero.to(at::kInt) + lowest).to(at::kByte), sink);
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

void ArtifactLayout::add(const Linear& linear, const Sink& sink) {
  const LowRank& correction = *linear.correction;
  corrections_[linear.name] = {{"rank", correction.rank()}};
  const auto add_factor = [&](const std::string& name, const Tensor& values, const Tensor& scale) {
    if (!scale.defined()) {
      add_tensor(name, values.to(correction.stored), sink);
      return;
    }
    const bool by_row = name.ends_with(kLoraASuffix);
    add_tensor(name, (values / (by_row ? scale.unsqueeze(1) : scale)).round().to(at::kChar), sink);
    add_tensor(name + kScaleSuffix, scale, sink);
  };
  add_factor(linear.name + kLoraASuffix, correction.A, correction.A_scale);
  add_factor(linear.name + kLoraBSuffix, correction.B, correction.B_scale);
}

void ArtifactLayout::add(Block& block, const Sink& sink) {
  for (const Weight* weight : block.weights()) add(*weight, sink);
  for (const Linear* linear : block.linears()) {
    if (linear->correction) add(*linear, sink);
  }
  for (const Site* site : block.sites()) {
    const ActivationQuantizer& quantizer = site->quantizer;
    const bool rounds = quantizer.kind != ActivationQuantizer::Kind::kNone;
    const std::string key = site_key(block.prefix(), site->name);
    Json json = {{"quantizer", quantizer.kind_name()}};
    if (rounds) json["bits"] = quantizer.bits;
    if (quantizer.kind == ActivationQuantizer::Kind::kStatic)
      add_tensor(key + ".scale", quantizer.scale, sink);
    if (quantizer.kind == ActivationQuantizer::Kind::kDynamic) {
      json["symmetric"] = quantizer.symmetric;
      json["clip"] = quantizer.clip;
      if (quantizer.group > 0) json["group"] = quantizer.group;
    }
    json["smooth"] = site->smooth.defined();
    if (site->smooth.defined()) add_tensor(key + ".smooth", site->smooth, sink);
    json["transform"] = write_transform(
        site->transform, key,
        [&](const std::string& name, const Tensor& tensor) { add_tensor(name, tensor, sink); });
    sites_[key] = json;
  }
}

Json ArtifactLayout::state() const {
  Json entries = Json::array();
  for (const Entry& entry : entries_) entries.push_back({entry.name, entry.dtype, entry.shape});
  return {{"entries", entries}, {"weights", weights_}, {"corrections", corrections_}, {"sites", sites_}};
}

void ArtifactLayout::restore(const Json& state, const std::string& where, int64_t bytes) {
  JsonFields fields(state, "writer");
  for (const Json& json : fields.at("entries")) {
    const bool well_formed = json.is_array() && json.size() == 3 && json[0].is_string() &&
                             json[1].is_string() && json[2].is_array();
    if (!well_formed) throw Error(where, "has a tensor without name, type and shape");
    const StoredType& stored = stored_type(json[1].get<std::string>(), where);
    Entry entry{json[0].get<std::string>(), stored.name, 0, {}, tensor_bytes_, 0};
    entry.item_bytes = static_cast<int64_t>(at::elementSize(stored.type));
    entry.bytes = entry.item_bytes;
    for (const Json& size : json[2]) {
      entry.shape.push_back(size.is_number_integer() ? size.get<int64_t>() : -1);
      if (entry.shape.back() < 0 || __builtin_mul_overflow(entry.bytes, entry.shape.back(), &entry.bytes)) {
        throw Error(where, "has a tensor of the shape " + json[2].dump());
      }
    }
    if (entry.bytes > bytes - tensor_bytes_) throw Error(where, entry.name + " lies past its end");
    tensor_bytes_ += entry.bytes;
    entries_.push_back(std::move(entry));
  }
  if (tensor_bytes_ != bytes) {
    throw Error(where, std::to_string(bytes) + " bytes are expected, its tensors have " +
                           std::to_string(tensor_bytes_));
  }
  weights_ = fields.at("weights");
  corrections_ = fields.at("corrections");
  sites_ = fields.at("sites");
  fields.finish();
  if (!weights_.is_object() || !corrections_.is_object() || !sites_.is_object())
    throw Error(where, "has no list of its weights");
}

std::vector<ArtifactLayout::WeightFile> ArtifactLayout::weight_files(const std::string& stem) const {
  std::vector<Entry> sorted = entries_;
  std::sort(sorted.begin(), sorted.end(), [](const Entry& a, const Entry& b) {
    return a.item_bytes != b.item_bytes ? a.item_bytes > b.item_bytes : a.name < b.name;
  });
  std::vector<WeightFile> files(1);
  int64_t shard_bytes = 0;
  for (const Entry& entry : sorted) {
    if (!files.back().entries.empty() && shard_bytes + entry.bytes > max_shard_bytes_) {
      files.emplace_back();
      shard_bytes = 0;
    }
    files.back().entries.push_back(entry);
    shard_bytes += entry.bytes;
  }
  for (size_t i = 0; i < files.size(); ++i) {
    files[i].name = shard_name(stem, i, files.size());
    files[i].header = header_of(files[i].entries);
  }
  return files;
}

std::map<std::string, std::string> ArtifactLayout::text_files(const Json& config, const Json& recipe) const {
  std::map<std::string, std::string> files;
  Json weight_map = Json::object();
  const std::vector<WeightFile> shards = weight_files();
  for (const WeightFile& shard : shards) {
    for (const Entry& entry : shard.entries) weight_map[entry.name] = shard.name;
  }
  if (shards.size() > 1) {
    const Json index = {{"metadata", {{"total_size", tensor_bytes_}}}, {"weight_map", weight_map}};
    files["model.safetensors.index.json"] = index.dump(1) + "\n";
  }
  Json document = config;
  if (!recipe.is_null()) {
    Json quantization = {{"quant_method", kQuantMethod},
                         {"format_version", kFormatVersion},
                         {"sha256", ""},
                         {"recipe", recipe},
                         {"weights", weights_},
                         {"corrections", corrections_},
                         {"sites", sites_}};
    quantization["sha256"] = config_hash(quantization);
    document["quantization_config"] = quantization;
  }
  files["config.json"] = python_json_text(document, 1) + "\n";
  return files;
}

}  // namespace ptq
