#include "ptq/artifact/safetensors_spool.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <filesystem>

#include "ptq/base/error.h"
#include "ptq/base/file.h"
#include "ptq/base/interrupt.h"
#include "ptq/model/weight.h"

namespace ptq {
namespace {

constexpr size_t kCopyBytes = size_t{1} << 22;
constexpr const char* kIndexSuffix = ".safetensors.index.json";

DType dtype_of(const at::Tensor& tensor, const std::string& name) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kF64, DType::kI8, DType::kU8,
                            DType::kI16, DType::kI32, DType::kI64, DType::kBool}) {
    if (scalar_type(dtype, name) == tensor.scalar_type()) return dtype;
  }
  throw Error(name, std::string("cannot store the dtype ") + at::toString(tensor.scalar_type()), "",
              ExitCode::kBug);
}

std::string file_name(const std::string& stem, size_t index, size_t count) {
  if (count == 1) return stem + ".safetensors";
  std::array<char, 64> name{};
  std::snprintf(name.data(), name.size(), "-%05zu-of-%05zu.safetensors", index + 1, count);
  return stem + name.data();
}

// The bytes in front of the data: the header's length, 8 bytes, and the header, padded to a multiple of 8.
std::string header_of(const std::vector<SafetensorsSpool::File::Entry>& entries) {
  Json header = {{"__metadata__", {{"format", "pt"}}}};
  int64_t offset = 0;
  for (const auto& [info, unused] : entries) {
    header[info.name] = {{"dtype", dtype_name(info.dtype)},
                         {"shape", info.shape},
                         {"data_offsets", {offset, offset + info.bytes()}}};
    offset += info.bytes();
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  const uint64_t length = text.size();
  std::string length_bytes(8, '\0');
  for (size_t i = 0; i < 8; ++i) length_bytes[i] = static_cast<char>(length >> (8 * i));
  return length_bytes + text;
}

// Gives `take` a range of the file, a few megabytes at a time.
template <typename Take>
void read_range(const MappedFile& file, int64_t offset, int64_t bytes, const Take& take) {
  std::vector<std::byte> buffer(static_cast<size_t>(std::min(bytes, static_cast<int64_t>(kCopyBytes))));
  for (const int64_t end = offset + bytes; offset < end;) {
    throw_if_interrupted();
    const std::span part(buffer.data(), std::min(buffer.size(), static_cast<size_t>(end - offset)));
    file.read_into(static_cast<size_t>(offset), part);
    take(part);
    offset += static_cast<int64_t>(part.size());
  }
}

// The tensor that an entry of a state stands for. Throws Error if it cannot be one, or has more than
// `most_bytes`.
TensorInfo info_from_state(const Json& json, const std::string& where, int64_t most_bytes) {
  const bool well_formed =
      json.is_array() && json.size() == 3 && json[0].is_string() && json[1].is_string() && json[2].is_array();
  if (!well_formed) throw Error(where, "has a tensor without name, type and shape");
  const std::optional<DType> dtype = dtype_from_name(json[1].get<std::string>());
  if (!dtype) throw Error(where, json[1].dump() + " is not a type of a stored tensor");
  TensorInfo info{json[0].get<std::string>(), *dtype, {}};
  int64_t bytes = dtype_bytes(*dtype);
  for (const Json& size : json[2]) {
    info.shape.push_back(size.is_number_integer() ? size.get<int64_t>() : -1);
    if (info.shape.back() < 0 || __builtin_mul_overflow(bytes, info.shape.back(), &bytes))
      throw Error(where, "has a tensor of the shape " + json[2].dump());
  }
  if (bytes > most_bytes) throw Error(where, info.name + " lies past its end");
  return info;
}

}  // namespace

int64_t SafetensorsSpool::File::bytes() const {
  auto sum = static_cast<int64_t>(header.size());
  for (const Entry& entry : entries) sum += entry.info.bytes();
  return sum;
}

SafetensorsSpool::SafetensorsSpool(int64_t max_shard_bytes) : max_shard_bytes_(max_shard_bytes) {}

SafetensorsSpool::SafetensorsSpool(int64_t max_shard_bytes, const std::string& path)
    : max_shard_bytes_(max_shard_bytes), path_(path), file_(std::make_unique<OutputFile>(path)) {}

SafetensorsSpool::SafetensorsSpool(int64_t max_shard_bytes, const std::string& path, const Json& state)
    : max_shard_bytes_(max_shard_bytes), path_(path) {
  JsonFields fields(state, path);
  restore_segments(fields.at("segments"));
  restore_entries(fields.at("entries"));
  fields.finish(ExitCode::kFailed);
  file_ = std::make_unique<OutputFile>(path, segment_begin_);
}

SafetensorsSpool SafetensorsSpool::within(OutputDirectory& output, int64_t max_shard_bytes) {
  SafetensorsSpool spool(max_shard_bytes, output.path("tensors.spool"));
  spool.temporary_ = true;
  return spool;
}

void SafetensorsSpool::list(const TensorInfo& info) {
  if (!names_.insert(info.name).second) throw Error(info.name, "is stored twice", "", ExitCode::kBug);
  entries_.push_back({info, tensor_bytes_});
  tensor_bytes_ += info.bytes();
}

void SafetensorsSpool::add(const TensorInfo& info, std::span<const std::byte> bytes) {
  assert(static_cast<int64_t>(bytes.size()) == (file_ ? info.bytes() : 0));
  list(info);
  if (!file_) return;
  segment_hash_.update(bytes);
  file_->write(bytes);
}

void SafetensorsSpool::add(const std::string& name, const at::Tensor& tensor) {
  const TensorInfo info{name, dtype_of(tensor, name), tensor.sizes().vec()};
  if (!file_) {
    add(info);
    return;
  }
  const at::Tensor local = tensor.cpu().contiguous();
  add(info, {static_cast<const std::byte*>(local.const_data_ptr()), local.nbytes()});
}

Json SafetensorsSpool::flush() {
  if (!file_) return state();
  file_->flush();
  segments_.push_back({tensor_bytes_ - segment_begin_, segment_hash_.hex()});
  segment_begin_ = tensor_bytes_;
  segment_hash_ = Sha256();
  return state();
}

Json SafetensorsSpool::state() const {
  Json segments = Json::array(), entries = Json::array();
  for (const auto& [bytes, sha256] : segments_) segments.push_back({bytes, sha256});
  for (const auto& [info, unused] : entries_)
    entries.push_back({info.name, dtype_name(info.dtype), info.shape});
  return {{"segments", segments}, {"entries", entries}};
}

// Checks the file against the hashes of its segments.
void SafetensorsSpool::restore_segments(const Json& segments) {
  const auto file = MappedFile::open(path_, /*use_mmap=*/false);
  const auto file_bytes = static_cast<int64_t>(file->size());
  for (const Json& json : segments) {
    const bool well_formed =
        json.is_array() && json.size() == 2 && json[0].is_number_integer() && json[1].is_string();
    if (!well_formed) throw Error(path_, "has a segment without bytes and hash");
    const Segment segment{json[0].get<int64_t>(), json[1].get<std::string>()};
    if (segment.bytes < 0 || segment.bytes > file_bytes - segment_begin_) {
      throw Error(path_, "has " + std::to_string(file_bytes) + " bytes; " + std::to_string(segment.bytes) +
                             " at " + std::to_string(segment_begin_) + " are expected");
    }
    Sha256 hash;
    read_range(*file, segment_begin_, segment.bytes,
               [&](std::span<const std::byte> part) { hash.update(part); });
    segment_begin_ += segment.bytes;
    if (hash.hex() != segment.sha256)
      throw Error(path_, "is damaged before byte " + std::to_string(segment_begin_));
    segments_.push_back(segment);
  }
}

// Takes up the tensors, which must fill the segments.
void SafetensorsSpool::restore_entries(const Json& entries) {
  for (const Json& json : entries) {
    const TensorInfo info = info_from_state(json, path_, segment_begin_ - tensor_bytes_);
    if (names_.contains(info.name)) throw Error(path_, info.name + " is listed twice");
    list(info);
  }
  if (tensor_bytes_ == segment_begin_) return;
  throw Error(path_, std::to_string(segment_begin_) + " bytes are expected, its tensors have " +
                         std::to_string(tensor_bytes_));
}

std::vector<SafetensorsSpool::File> SafetensorsSpool::files(const std::string& stem) const {
  std::vector<File::Entry> sorted = entries_;
  std::sort(sorted.begin(), sorted.end(), [](const File::Entry& a, const File::Entry& b) {
    const int64_t width_a = dtype_bytes(a.info.dtype), width_b = dtype_bytes(b.info.dtype);
    return width_a != width_b ? width_a > width_b : a.info.name < b.info.name;
  });
  std::vector<File> files(1);
  int64_t shard_bytes = 0;
  for (const File::Entry& entry : sorted) {
    const int64_t bytes = entry.info.bytes();
    if (!files.back().entries.empty() && bytes > max_shard_bytes_ - shard_bytes) {
      files.emplace_back();
      shard_bytes = 0;
    }
    files.back().entries.push_back(entry);
    shard_bytes += bytes;
  }
  for (size_t i = 0; i < files.size(); ++i) {
    files[i].name = file_name(stem, i, files.size());
    files[i].header = header_of(files[i].entries);
  }
  return files;
}

std::string SafetensorsSpool::index(const std::string& stem) const {
  const std::vector<File> shards = files(stem);
  if (shards.size() == 1) return "";
  Json weight_map = Json::object();
  for (const File& shard : shards) {
    for (const File::Entry& entry : shard.entries) weight_map[entry.info.name] = shard.name;
  }
  const Json json = {{"metadata", {{"total_size", tensor_bytes_}}}, {"weight_map", weight_map}};
  return json.dump(1) + "\n";
}

std::vector<std::string> SafetensorsSpool::write(OutputDirectory& output, const std::string& stem) {
  assert(file_ && "write() of shapes alone");
  file_->close();
  std::vector<std::string> names;
  {
    // A spool without a tensor is an empty file, which is not mapped.
    const auto spool = tensor_bytes_ > 0 ? MappedFile::open(path_, /*use_mmap=*/false) : nullptr;
    for (const File& file : files(stem)) {
      OutputFile out(output.path(file.name));
      out.write(file.header);
      for (const auto& [info, offset] : file.entries)
        read_range(*spool, offset, info.bytes(), [&](std::span<const std::byte> part) { out.write(part); });
      out.close();
      names.push_back(file.name);
    }
  }
  const std::string text = index(stem);
  if (!text.empty()) write_file(output.path(stem + kIndexSuffix), text);
  if (temporary_) std::filesystem::remove(path_);
  return names;
}

}  // namespace ptq
