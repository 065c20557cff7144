#include "ptq/artifact/writer.h"

#include <algorithm>
#include <filesystem>

#include "ptq/base/error.h"
#include "ptq/base/file.h"
#include "ptq/base/hash.h"
#include "ptq/base/interrupt.h"

namespace ptq {
namespace {

constexpr size_t kCopyBytes = size_t{1} << 22;

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

}  // namespace

// Tensors arrive block by block, but a safetensors file begins with a header of all of them and wants wide
// dtypes first. So their bytes go to a spool file first and are copied into place at the end: memory never
// holds more than one block.
ArtifactWriter::ArtifactWriter(OutputDirectory& output, int64_t max_shard_bytes,
                               const std::string& spool_path)
    : output_(output),
      layout_(max_shard_bytes),
      spool_path_(spool_path),
      spool_(std::make_unique<OutputFile>(spool_path)) {}

ArtifactWriter::ArtifactWriter(OutputDirectory& output, int64_t max_shard_bytes,
                               const std::string& spool_path, const Json& state)
    : output_(output), layout_(max_shard_bytes), spool_path_(spool_path) {
  JsonFields fields(state, "writer");
  segment_begin_ = restore_segments(fields.at("segments"));
  layout_.restore(fields.at("layout"), spool_path_, segment_begin_);
  fields.finish();
  spool_ = std::make_unique<OutputFile>(spool_path_, segment_begin_);
}

ArtifactWriter::~ArtifactWriter() = default;

void ArtifactWriter::add(const Weight& weight) {
  layout_.add(weight, [this](const Tensor& tensor) { spool(tensor); });
}

void ArtifactWriter::add(Block& block) {
  layout_.add(block, [this](const Tensor& tensor) { spool(tensor); });
}

void ArtifactWriter::spool(const Tensor& tensor) {
  const Tensor local = tensor.cpu().contiguous();
  const std::span data(static_cast<const std::byte*>(local.const_data_ptr()), local.nbytes());
  segment_hash_.update(data);
  spool_->write(data);
}

Json ArtifactWriter::flush() {
  spool_->flush();
  segments_.push_back({spool_->offset() - segment_begin_, segment_hash_.hex()});
  segment_begin_ = spool_->offset();
  segment_hash_ = Sha256();
  Json segments = Json::array();
  for (const Segment& segment : segments_) segments.push_back({segment.bytes, segment.sha256});
  return {{"segments", segments}, {"layout", layout_.state()}};
}

// Checks the spool against the hashes of its segments. Returns the bytes that they cover.
int64_t ArtifactWriter::restore_segments(const Json& segments) {
  const auto spool = MappedFile::open(spool_path_, /*use_mmap=*/false);
  const auto file_bytes = static_cast<int64_t>(spool->size());
  int64_t offset = 0;
  std::vector<std::byte> buffer(kCopyBytes);
  for (const Json& json : segments) {
    const bool well_formed =
        json.is_array() && json.size() == 2 && json[0].is_number_integer() && json[1].is_string();
    if (!well_formed) throw Error(spool_path_, "has a segment without bytes and hash");
    const Segment segment{json[0].get<int64_t>(), json[1].get<std::string>()};
    if (segment.bytes < 0 || segment.bytes > file_bytes - offset) {
      throw Error(spool_path_, "has " + std::to_string(file_bytes) + " bytes; " +
                                   std::to_string(segment.bytes) + " at " + std::to_string(offset) +
                                   " are expected");
    }
    Sha256 hash;
    for (int64_t end = offset + segment.bytes; offset < end;) {
      throw_if_interrupted();
      const std::span part(buffer.data(), std::min(buffer.size(), static_cast<size_t>(end - offset)));
      spool->read_into(static_cast<size_t>(offset), part);
      hash.update(part);
      offset += static_cast<int64_t>(part.size());
    }
    if (hash.hex() != segment.sha256) {
      throw Error(spool_path_, "is damaged before byte " + std::to_string(offset));
    }
    segments_.push_back(segment);
  }
  return offset;
}

void ArtifactWriter::write_weights(const ArtifactLayout::WeightFile& file) {
  OutputFile out(output_.path(file.name));
  out.write(file.header);
  const auto spool = MappedFile::open(spool_path_, /*use_mmap=*/false);
  for (const ArtifactLayout::Entry& entry : file.entries)
    copy_range(*spool, static_cast<size_t>(entry.spool_offset), static_cast<size_t>(entry.bytes), out);
  out.close();
}

std::vector<std::string> ArtifactWriter::finish_tensors(const std::string& stem) {
  spool_->close();
  std::vector<std::string> names;
  for (const ArtifactLayout::WeightFile& file : layout_.weight_files(stem)) {
    names.push_back(file.name);
    write_weights(file);
  }
  return names;
}

std::vector<std::string> ArtifactWriter::finish(const Json& config, const Json& recipe) {
  std::vector<std::string> names = finish_tensors("model");
  for (const auto& [name, text] : layout_.text_files(config, recipe)) write_file(output_.path(name), text);
  return names;
}

void write_checksums(OutputDirectory& output) {
  std::string text;
  for (const std::string& file : output.files()) text += sha256_file(output.path(file)) + "  " + file + "\n";
  write_file(output.path("SHA256SUMS"), text);
}

}  // namespace ptq
