// Which file of a directory is the checkpoint, told from the files' names.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace ptq {

struct DirectoryCheckpoint {
  std::string file;                 // of tensors, or an index; "" if it is a set of shards without an index
  std::vector<std::string> shards;  // paths; empty if there is a file
  std::vector<std::string> others;  // other forms of a checkpoint beside it, which are not read
  bool others_are_forms = false;    // they should hold the same tensors: model.safetensors and its shards
};

// Throws Error, which says what lies there, if there is nothing or more than one thing to take.
DirectoryCheckpoint find_checkpoint(const std::string& directory);

// "model-00001-of-00002.safetensors": the first of two shards.
struct ShardName {
  std::string stem, suffix;  // "model", ".safetensors"
  int number = 0, count = 0;
};
std::optional<ShardName> parse_shard_name(const std::string& name);

// Throws Error if the file `path` is one shard of several.
void refuse_lone_shard(const std::string& path);

// Throws Error for a path that does not exist and looks like the name of a model on the Hugging Face hub.
void refuse_hub_name(const std::string& path);

}  // namespace ptq
