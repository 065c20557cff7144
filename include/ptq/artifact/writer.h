// Writes the program's own format (src/artifact/format.h), one block at a time.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ptq/artifact/layout.h"
#include "ptq/base/hash.h"
#include "ptq/base/json.h"
#include "ptq/base/output.h"
#include "ptq/model/model.h"

namespace ptq {

class ArtifactWriter {
 public:
  // `output` must outlive the writer. Shards hold at most `max_shard_bytes` each, a single larger tensor
  // apart. What is added waits in the file `spool_path`, which must not exist and stays: a run that was
  // stopped goes on with it.
  ArtifactWriter(OutputDirectory& output, int64_t max_shard_bytes, const std::string& spool_path);
  // Goes on from the flush() that returned `state`; what was added after it is dropped. Throws Error if the
  // spool is not the one that was flushed, or if `state` cannot be what flush() returns.
  ArtifactWriter(OutputDirectory& output, int64_t max_shard_bytes, const std::string& spool_path,
                 const Json& state);
  ~ArtifactWriter();

  void add(const Weight& weight);
  // Every weight and correction of the block, and the scales, transforms and schemes of its sites.
  void add(Block& block);

  // Waits until what was added is on disk, and returns what another writer needs to go on from here.
  Json flush();

  // Writes the safetensors files, their index and config.json: `config` with the quantization_config added,
  // if there is a recipe (it is not null). Returns the names of the weight files.
  std::vector<std::string> finish(const Json& config, const Json& recipe);
  // Writes the safetensors files alone, as STEM.safetensors or shards of it. Returns their names.
  std::vector<std::string> finish_tensors(const std::string& stem);

 private:
  // What lay between two flushes.
  struct Segment {
    int64_t bytes = 0;
    std::string sha256;
  };
  int64_t restore_segments(const Json& segments);
  void spool(const Tensor& tensor);
  void write_weights(const ArtifactLayout::WeightFile& file);

  OutputDirectory& output_;
  ArtifactLayout layout_;
  std::string spool_path_;
  std::unique_ptr<OutputFile> spool_;
  std::vector<Segment> segments_;
  Sha256 segment_hash_;
  int64_t segment_begin_ = 0;
};

// Writes SHA256SUMS over every file of the output, in the form that `sha256sum -c` reads.
void write_checksums(OutputDirectory& output);

}  // namespace ptq
