// Which tensors an artifact holds, in which files and at which bytes (src/artifact/format.h), told from
// shapes and schemes: the writer writes by it, `quantize plan` adds it up.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "ptq/base/json.h"
#include "ptq/model/model.h"

namespace ptq {

class ArtifactLayout {
 public:
  // Is given the tensors in the order of Entry::spool_offset.
  using Sink = std::function<void(const Tensor& tensor)>;

  struct Entry {
    std::string name;
    const char* dtype;  // as safetensors spells it
    int64_t item_bytes;
    std::vector<int64_t> shape;
    int64_t spool_offset;  // of its bytes, where all tensors lie one after another as they were added
    int64_t bytes;
  };
  struct WeightFile {
    std::string name;
    std::string header;  // all that comes before the data
    std::vector<Entry> entries;

    int64_t bytes() const;
  };

  // Shards hold at most `max_shard_bytes` of tensors each, a single larger tensor apart.
  explicit ArtifactLayout(int64_t max_shard_bytes) : max_shard_bytes_(max_shard_bytes) {}

  // Without a sink, tensors may lie on the meta device.
  void add(const Weight& weight, const Sink& sink = {});
  // Every weight and correction of the block, and the scales, transforms and schemes of its sites.
  void add(Block& block, const Sink& sink = {});

  // The safetensors files, whole: STEM.safetensors, or shards of it.
  std::vector<WeightFile> weight_files(const std::string& stem = "model") const;
  // Their index, if there are several, and config.json: `config` with the quantization_config added, if there
  // is a recipe (it is not null). Name -> text.
  std::map<std::string, std::string> text_files(const Json& config, const Json& recipe) const;
  // What was added, for restore().
  Json state() const;
  // Takes up what another layout was given. Throws Error, naming `where`, if `state` cannot be what state()
  // returns, or if its tensors do not have `bytes` in all. REQUIRES: nothing was added.
  void restore(const Json& state, const std::string& where, int64_t bytes);
  // Of all tensors added so far, without headers.
  int64_t tensor_bytes() const { return tensor_bytes_; }

 private:
  // Its correction.
  void add(const Linear& linear, const Sink& sink);
  void add_tensor(const std::string& name, const Tensor& tensor, const Sink& sink);

  int64_t max_shard_bytes_;
  std::vector<Entry> entries_;
  int64_t tensor_bytes_ = 0;
  Json weights_ = Json::object();
  Json corrections_ = Json::object();
  Json sites_ = Json::object();
};

}  // namespace ptq
