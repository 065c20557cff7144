// Writes the program's own format (ptq/artifact/format.h), one block at a time.
#pragma once

#include <string>
#include <vector>

#include "ptq/artifact/layout.h"
#include "ptq/base/json.h"
#include "ptq/base/output.h"
#include "ptq/model/model.h"

namespace ptq {

class ArtifactWriter {
 public:
  // `output` must outlive the writer. Shards hold at most `max_shard_bytes` each, a single larger tensor
  // apart. What is added waits in the file `spool_path`, which must not exist and stays: a run that was
  // stopped goes on with it.
  ArtifactWriter(OutputDirectory& output, int64_t max_shard_bytes, const std::string& spool_path)
      : output_(output), layout_(SafetensorsSpool(max_shard_bytes, spool_path)) {}
  // Goes on from the flush() that returned `state`; what was added after it is dropped. Throws Error if the
  // spool is not the one that was flushed, or if `state` cannot be what flush() returns.
  ArtifactWriter(OutputDirectory& output, int64_t max_shard_bytes, const std::string& spool_path,
                 const Json& state)
      : output_(output), layout_(max_shard_bytes, spool_path, state) {}

  void add(const Weight& weight) { layout_.add(weight); }
  // Every weight and correction of the block, and the scales, transforms and schemes of its sites.
  void add(Block& block) { layout_.add(block); }

  // Waits until what was added is on disk, and returns what another writer needs to go on from here.
  Json flush() { return layout_.flush(); }

  // Writes the safetensors files, their index and config.json: `config` with the quantization_config added.
  // Returns the names of the safetensors files.
  std::vector<std::string> finish(const Json& config, const Json& recipe) {
    return layout_.write(output_, config, recipe);
  }

 private:
  OutputDirectory& output_;
  ArtifactLayout layout_;
};

}  // namespace ptq
