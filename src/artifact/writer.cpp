#include "ptq/artifact/writer.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>

#include "artifact/format.h"
#include "artifact/transform_io.h"
#include "ptq/base/error.h"
#include "ptq/base/file.h"
#include "ptq/base/hash.h"
#include "ptq/base/interrupt.h"

namespace ptq {
namespace {

constexpr size_t kCopyBytes = size_t{1} << 22;

const char* safetensors_dtype(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return "F32";
    case at::kHalf:
      return "F16";
    case at::kBFloat16:
      return "BF16";
    case at::kChar:
      return "I8";
    case at::kByte:
      return "U8";
    case at::kInt:
      return "I32";
    default:
      throw Error("artifact", std::string("cannot store the dtype ") + at::toString(type), "",
                  ExitCode::kBug);
  }
}

// Copies a range of the spool to the end of `out`, a few megabytes at a time.
void copy_range(const MappedFile& spool, size_t offset, size_t bytes, OutputFile& out) {
  std::vector<std::byte> buffer(std::min(bytes, kCopyBytes));
  while (bytes > 0) {
    throw_if_interrupted();
    const std::span<std::byte> part(buffer.data(), std::min(bytes, buffer.size()));
    spool.read_into(offset, part);
    out.write(part);
    offset += part.size();
    bytes -= part.size();
  }
}

std::string shard_name(size_t index, size_t count) {
  if (count == 1) return "model.safetensors";
  std::array<char, 64> name{};
  std::snprintf(name.data(), name.size(), "model-%05zu-of-%05zu.safetensors", index + 1, count);
  return name.data();
}

}  // namespace

struct ArtifactWriter::Entry {
  std::string name;
  const char* dtype;
  int64_t item_bytes;
  std::vector<int64_t> shape;
  size_t spool_offset;
  size_t bytes;
};

// Tensors arrive block by block, but a safetensors file begins with a header of all of them and wants wide
// dtypes first. So their bytes go to a spool file first and are copied into place at the end: memory never
// holds more than one block.
ArtifactWriter::ArtifactWriter(OutputDirectory& output, int64_t max_shard_bytes)
    : output_(output),
      max_shard_bytes_(max_shard_bytes),
      spool_path_(output.path("tensors.spool")),
      spool_(std::make_unique<OutputFile>(spool_path_)) {}

ArtifactWriter::~ArtifactWriter() = default;

void ArtifactWriter::add_tensor(const std::string& name, const Tensor& tensor) {
  const Tensor local = tensor.cpu().contiguous();
  const auto bytes = static_cast<size_t>(local.nbytes());
  entries_.push_back({name, safetensors_dtype(local.scalar_type()), local.element_size(), local.sizes().vec(),
                      static_cast<size_t>(spool_->offset()), bytes});
  spool_->write(std::span(static_cast<const std::byte*>(local.const_data_ptr()), bytes));
  tensor_bytes_ += static_cast<int64_t>(bytes);
}

void ArtifactWriter::add(const Weight& weight) {
  if (!weight.quantized) {
    add_tensor(weight.name, weight.value.to(weight.stored));
    return;
  }
  const QuantizedTensor& q = *weight.quantized;
  if (q.scheme.bits == 4) {
    add_tensor(weight.name + kPackedSuffix, pack_int4(q.codes));
  } else {
    add_tensor(weight.name, q.codes);
  }
  add_tensor(weight.name + kScaleSuffix, q.scheme.half_scales ? q.scale.to(at::kHalf) : q.scale);
  if (q.zero.defined()) {
    const int64_t lowest = int64_t{1} << (q.scheme.bits - 1);
    add_tensor(weight.name + kZeroSuffix, (q.zero.to(at::kInt) + lowest).to(at::kByte));
  }
  Json scheme = {{"bits", q.scheme.bits},
                 {"granularity", granularity_name(q.scheme.granularity)},
                 {"symmetric", q.scheme.symmetric}};
  if (q.scheme.granularity == Granularity::kGroup) scheme["group"] = q.scheme.group;
  if (q.scheme.bits == 4) scheme["shape"] = q.codes.sizes().vec();
  weights_[weight.name] = scheme;
}

void ArtifactWriter::add(Block& block) {
  for (const Weight* weight : block.weights()) add(*weight);
  for (const Site* site : block.sites()) {
    const ActivationQuantizer& quantizer = site->quantizer;
    const bool rounds = quantizer.kind != ActivationQuantizer::Kind::kNone;
    if (!rounds && site->transform.empty() && !site->smooth.defined()) continue;
    const std::string key = site_key(block.prefix(), site->name);
    Json json = {{"quantizer", quantizer.kind_name()}};
    if (rounds) json["bits"] = quantizer.bits;
    if (quantizer.kind == ActivationQuantizer::Kind::kStatic) add_tensor(key + ".scale", quantizer.scale);
    if (quantizer.kind == ActivationQuantizer::Kind::kDynamic) {
      json["symmetric"] = quantizer.symmetric;
      json["clip"] = quantizer.clip;
      if (quantizer.group > 0) json["group"] = quantizer.group;
    }
    if (site->smooth.defined()) add_tensor(key + ".smooth", site->smooth);
    if (!site->transform.empty()) {
      json["transform"] = write_transform(
          site->transform, key, [this](const auto& name, const Tensor& tensor) { add_tensor(name, tensor); });
    }
    sites_[key] = json;
  }
}

void ArtifactWriter::write_shard(const std::string& file, const std::vector<Entry>& entries) {
  Json header = {{"__metadata__", {{"format", "pt"}}}};
  size_t offset = 0;
  for (const Entry& entry : entries) {
    header[entry.name] = {
        {"dtype", entry.dtype}, {"shape", entry.shape}, {"data_offsets", {offset, offset + entry.bytes}}};
    offset += entry.bytes;
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  OutputFile out(output_.path(file));
  const uint64_t length = text.size();
  std::array<std::byte, 8> length_bytes{};
  for (size_t i = 0; i < 8; ++i) length_bytes[i] = static_cast<std::byte>(length >> (8 * i));
  out.write(length_bytes);
  out.write(text);
  const auto spool = MappedFile::open(spool_path_, /*use_mmap=*/false);
  for (const Entry& entry : entries) copy_range(*spool, entry.spool_offset, entry.bytes, out);
  out.close();
}

std::vector<std::string> ArtifactWriter::finish(const Json& config, const Json& recipe) {
  spool_->close();
  std::sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) {
    return a.item_bytes != b.item_bytes ? a.item_bytes > b.item_bytes : a.name < b.name;
  });
  std::vector<std::vector<Entry>> shards(1);
  int64_t shard_bytes = 0;
  for (const Entry& entry : entries_) {
    const auto bytes = static_cast<int64_t>(entry.bytes);
    if (!shards.back().empty() && shard_bytes + bytes > max_shard_bytes_) {
      shards.emplace_back();
      shard_bytes = 0;
    }
    shards.back().push_back(entry);
    shard_bytes += bytes;
  }
  std::vector<std::string> files;
  Json weight_map = Json::object();
  for (size_t i = 0; i < shards.size(); ++i) {
    files.push_back(shard_name(i, shards.size()));
    write_shard(files.back(), shards[i]);
    for (const Entry& entry : shards[i]) weight_map[entry.name] = files.back();
  }
  if (shards.size() > 1) {
    const Json index = {{"metadata", {{"total_size", tensor_bytes_}}}, {"weight_map", weight_map}};
    write_file(output_.path("model.safetensors.index.json"), index.dump(1) + "\n");
  }
  std::filesystem::remove(spool_path_);
  Json document = config;
  document["quantization_config"] = {{"quant_method", kQuantMethod},
                                     {"format_version", kFormatVersion},
                                     {"recipe", recipe},
                                     {"weights", weights_},
                                     {"sites", sites_}};
  write_file(output_.path("config.json"), document.dump(1) + "\n");
  return files;
}

std::vector<std::string> copy_tokenizer_files(const std::string& source_directory,
                                              const std::string& tokenizer_path, OutputDirectory& output) {
  namespace fs = std::filesystem;
  std::vector<std::string> copied;
  const auto copy = [&](const std::string& from, const std::string& name) {
    write_file(output.path(name), read_file(from, size_t{1} << 28));
    copied.push_back(name);
  };
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(source_directory, ignored)) {
    const std::string name = entry.path().filename().string();
    const bool wanted = name.starts_with("tokenizer") || name == "special_tokens_map.json" ||
                        name == "vocab.json" || name == "merges.txt" || name == "generation_config.json" ||
                        name.starts_with("chat_template");
    const bool replaced = name == "tokenizer.json" && !tokenizer_path.empty();
    if (wanted && !replaced && entry.is_regular_file(ignored)) copy(entry.path().string(), name);
  }
  if (!tokenizer_path.empty()) copy(tokenizer_path, "tokenizer.json");
  std::sort(copied.begin(), copied.end());
  return copied;
}

void write_checksums(OutputDirectory& output) {
  std::string text;
  for (const std::string& file : output.files()) text += sha256_file(output.path(file)) + "  " + file + "\n";
  write_file(output.path("SHA256SUMS"), text);
}

}  // namespace ptq
