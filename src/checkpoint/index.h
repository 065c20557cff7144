// Checkpoints in several files: model.safetensors.index.json, pytorch_model.bin.index.json.
//
// Layout: {"metadata": {...}, "weight_map": {"TENSOR": "FILE", ...}}. A file is a plain name beside the
// index, and holds exactly the tensors that the index gives it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/bytes.h"
#include "ptq/checkpoint/checkpoint.h"

namespace ptq {

class StoredCheckpoint;

struct ShardIndex {
  struct Entry {
    std::string tensor;
    uint32_t file;  // index into files
  };
  std::vector<std::string> files;
  std::vector<Entry> entries;  // sorted by tensor
};

// Parses an index. Throws Error, also on a tensor named twice and on a file name that is not plain.
ShardIndex parse_index(std::string_view text, const std::string& where);

// Reads the headers of every shard into `checkpoint`. Throws Error unless shards and index agree.
void add_shards(const ByteSource& index, const CheckpointOptions& options, StoredCheckpoint& checkpoint);

}  // namespace ptq
