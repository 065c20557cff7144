// A foreign float checkpoint, read lazily: what tensors there are, and the bytes of one when asked.
//
// Goals: everything `spec`-conforming that people have on disk (safetensors, sharded safetensors, PyTorch zip
// archives, legacy PyTorch files); hostile files end in an Error, never in a crash, unbounded memory or a
// path outside the directory. Non-goals: training state, sparse tensors, executing anything a pickle asks
// for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ptq/base/json.h"

namespace ptq {

enum class DType {
  kF64,
  kF32,
  kF16,
  kBF16,
  kF8E4M3,
  kF8E5M2,
  kI64,
  kI32,
  kI16,
  kI8,
  kU64,
  kU32,
  kU16,
  kU8,
  kBool
};

// "F16", "I8", ...: the names safetensors uses.
const char* dtype_name(DType dtype);
int64_t dtype_bytes(DType dtype);
// nullopt for a name that safetensors does not define.
std::optional<DType> dtype_from_name(std::string_view name);

struct TensorInfo {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;

  int64_t num_elements() const;  // 1 for a scalar; the reader has checked that it does not overflow
  int64_t bytes() const;
};

// The contiguous C-order bytes of one tensor. They stay valid while `owner` lives. They are aligned to the
// item size.
struct TensorBytes {
  TensorInfo info;
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> owner;
};

struct CheckpointOptions {
  std::string state_key;    // --state-key: path of nested dict keys, "model.state_dict"
  std::string config_path;  // --config: replaces the directory's config.json
  bool use_mmap = true;     // --no-mmap
  // --ignore-tensors: shell patterns of tensors that are left out as if they were not stored. Names are those
  // that tensors() gives, prefixes stripped.
  std::vector<std::string> ignore = {};
  bool ignore_must_match = true;  // a pattern that matches no tensor is a usage Error
  // Whether what is no whole model, one shard of several or a LoRA adapter, is an Error.
  bool whole_model = true;

  // Of a file that need not be a model.
  static CheckpointOptions of_any_tensors() {
    CheckpointOptions options;
    options.whole_model = false;
    return options;
  }
};

class Checkpoint {
 public:
  virtual ~Checkpoint() = default;

  // Sorted by name; names are unique. What wrappers have added to them ("module.", "_orig_mod.", "model."
  // where "model.backbone." is meant) is already left out, and those of a base model ("layers.0...") have got
  // its "model." or "backbone."; notes() says so.
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  // nullptr if there is no tensor of that name.
  const TensorInfo* find(const std::string& name) const;
  // Throws Error with the nearest names if there is no such tensor, and if the file has a checksum of its
  // storage that does not fit; that is computed at the first read only. Caches nothing. Usable from several
  // threads.
  virtual TensorBytes read(const std::string& name) const = 0;
  // Lets the pages of a tensor that is not needed for now leave memory. Bytes handed out earlier stay valid.
  virtual void drop(const std::string& name) const = 0;

  // The model's config.json, --config, or a null Json if there is none.
  const Json& config() const { return config_; }
  // The folder the checkpoint lies in: tokenizer.json and its like are looked for here.
  const std::string& directory() const { return directory_; }
  // What the user gave, for messages.
  const std::string& path() const { return path_; }
  // Every file that holds tensors or configuration.
  const std::vector<std::string>& files() const { return files_; }
  // Groups of two or more names of the same stored elements ("tied"). Different parts of one storage are no
  // tie.
  const std::vector<std::vector<std::string>>& ties() const { return ties_; }
  // Names of the tensors that CheckpointOptions::ignore left out, sorted.
  const std::vector<std::string>& ignored() const { return ignored_; }
  // What the reader did that the user should know (names that it changed).
  const std::vector<std::string>& notes() const { return notes_; }
  // What may be other than the user meant: a second checkpoint beside this one, a key that occurs twice. The
  // log has them already.
  const std::vector<std::string>& warnings() const { return warnings_; }

 protected:
  std::vector<TensorInfo> tensors_;
  Json config_;
  std::string directory_;
  std::string path_;
  std::vector<std::string> files_;
  std::vector<std::vector<std::string>> ties_;
  std::vector<std::string> ignored_;
  std::vector<std::string> notes_;
  std::vector<std::string> warnings_;
};

// Opens a Hugging Face or state-spaces directory, or a bare .pt / .pth / .bin / .ckpt / .safetensors /
// .index.json file. In a directory the first of model.safetensors, model.safetensors.index.json,
// pytorch_model.bin and pytorch_model.bin.index.json is taken, as transformers does; if another of them is
// there too, a warning or note says so, and an Error if their headers show other tensors. Without any of
// them, what is taken is the only index, the only file of weights or the only set of shards, or of several
// the only *.pt, with a warning; anything else is an Error that says what lies there. The kind of a file is
// told from its first bytes, not its name. A bare file uses a config.json only if --config names it or one
// lies beside it. A configuration may have Infinity and NaN, and repeated keys, of which a warning tells.
// Reads headers only, and the bytes of tensors that lie in two shards. Throws Error.
std::unique_ptr<Checkpoint> open_checkpoint(const std::string& path, const CheckpointOptions& options = {});

}  // namespace ptq
