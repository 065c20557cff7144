// Writes the program's own format (src/artifact/format.h), one block at a time.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ptq/base/json.h"
#include "ptq/base/output.h"
#include "ptq/model/model.h"

namespace ptq {

class ArtifactWriter {
 public:
  // `output` must outlive the writer. Shards hold at most `max_shard_bytes` each, a single larger tensor
  // apart.
  ArtifactWriter(OutputDirectory& output, int64_t max_shard_bytes);
  ~ArtifactWriter();

  void add(const Weight& weight);
  // Every weight of the block, and the scales, transforms and schemes of its sites.
  void add(Block& block);

  // Writes the safetensors files, their index and config.json: `config` with the quantization_config added.
  // Returns the names of the weight files.
  std::vector<std::string> finish(const Json& config, const Json& recipe);

 private:
  struct Entry;
  void add_tensor(const std::string& name, const Tensor& tensor);
  void write_shard(const std::string& file, const std::vector<Entry>& entries);

  OutputDirectory& output_;
  int64_t max_shard_bytes_;
  std::string spool_path_;
  std::unique_ptr<OutputFile> spool_;
  std::vector<Entry> entries_;
  int64_t tensor_bytes_ = 0;
  Json weights_ = Json::object();
  Json sites_ = Json::object();
};

// Copies the tokenizer's and the generation configuration's files from the source's folder, and
// `tokenizer_path` (if it is not empty) as tokenizer.json. Returns what it copied.
std::vector<std::string> copy_tokenizer_files(const std::string& source_directory,
                                              const std::string& tokenizer_path, OutputDirectory& output);

// Writes SHA256SUMS over every file of the output, in the form that `sha256sum -c` reads.
void write_checksums(OutputDirectory& output);

}  // namespace ptq
