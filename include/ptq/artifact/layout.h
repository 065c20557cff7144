// What an artifact consists of (ptq/artifact/format.h): the tensors of weights and sites under their names,
// in a spool, and their schemes, in the quantization_config. The writer writes by it, `quantize plan` adds it
// up from shapes.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "ptq/artifact/safetensors_spool.h"
#include "ptq/base/json.h"
#include "ptq/model/model.h"

namespace ptq {

class ArtifactLayout {
 public:
  using WeightFile = SafetensorsSpool::File;

  // From shapes alone: what is added may lie on the meta device.
  explicit ArtifactLayout(int64_t max_shard_bytes) : spool_(max_shard_bytes) {}
  explicit ArtifactLayout(SafetensorsSpool spool) : spool_(std::move(spool)) {}
  // Goes on from the flush() that returned `state`, as a SafetensorsSpool does.
  ArtifactLayout(int64_t max_shard_bytes, const std::string& spool_path, const Json& state);

  void add(const Weight& weight);
  // Every weight and correction of the block, and the scales, transforms and schemes of its sites.
  void add(Block& block);

  // Waits until what was added is on disk. Returns what another layout needs to go on from here.
  Json flush();
  // What flush() would return if nothing were added since the last.
  Json state() const;

  // The safetensors files.
  std::vector<WeightFile> weight_files() const { return spool_.files(); }
  // Of all tensors added so far, without headers.
  int64_t tensor_bytes() const { return spool_.tensor_bytes(); }
  // Their index, if there are several, and config.json: `config` with the quantization_config added. Name ->
  // text.
  std::map<std::string, std::string> text_files(const Json& config, const Json& recipe) const;
  // Writes the files of both kinds. Returns the names of the safetensors files. Nothing may be added after
  // it.
  std::vector<std::string> write(OutputDirectory& output, const Json& config, const Json& recipe);

 private:
  ArtifactLayout(int64_t max_shard_bytes, const std::string& spool_path, JsonFields fields);
  // Its correction.
  void add(const Linear& linear);
  std::string config_text(const Json& config, const Json& recipe) const;

  SafetensorsSpool spool_;
  Json weights_ = Json::object();
  Json corrections_ = Json::object();
  Json sites_ = Json::object();
};

}  // namespace ptq
