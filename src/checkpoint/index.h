// Checkpoints in several files: model.safetensors.index.json, pytorch_model.bin.index.json.
//
// Layout: {"metadata": {...}, "weight_map": {"TENSOR": "FILE", ...}}. A file is a plain name beside the
// index, and holds the tensors that the index gives it. It may hold others; and buffers and a tied head may
// be listed and not stored.
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

// Reads the headers of every shard into `checkpoint`, with notes of what is stored and not listed, or listed,
// may be absent and is. Throws Error for any other disagreement, but leaves a tensor in two shards to
// finish().
void add_shards(const ByteSource& index, const CheckpointOptions& options, StoredCheckpoint& checkpoint);

}  // namespace ptq
