// Tensors on their way into safetensors files, for every format that is stored in them.
//
// A safetensors file begins with a header of all its tensors and wants wide dtypes first, but tensors are
// made block by block. So their bytes go to a spool file as they come and are copied into place at the end:
// memory never holds more than one of them, and the disk holds them twice for a while.
//
// A run that is stopped goes on with the spool file: flush() covers what was added so far with a SHA-256, in
// a segment of its own, and what lies past the last segment is dropped.
//
// Without a file the spool takes shapes alone, and tells what write() would write: for `quantize plan`.
#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "ptq/base/hash.h"
#include "ptq/base/json.h"
#include "ptq/base/output.h"
#include "ptq/checkpoint/checkpoint.h"

namespace ptq {

class SafetensorsSpool {
 public:
  // A safetensors file, whole or a shard.
  struct File {
    struct Entry {
      TensorInfo info;
      int64_t offset;  // in the spool
    };
    std::string name;
    std::string header;  // all that comes before the data
    std::vector<Entry> entries;

    int64_t bytes() const;
  };

  // No limit: one file, whatever its size.
  static constexpr int64_t kOneFile = INT64_MAX;
  // What runtimes expect of a shard.
  static constexpr int64_t kUsualShard = int64_t{5} << 30;

  // From shapes alone. Shards hold at most `max_shard_bytes` of tensors each, a single larger tensor apart.
  explicit SafetensorsSpool(int64_t max_shard_bytes);
  // The file `path` must not exist, and stays.
  SafetensorsSpool(int64_t max_shard_bytes, const std::string& path);
  // Goes on from the flush() that returned `state`; what was added after it is dropped. Throws Error, naming
  // `path`, if the file is not the one that was flushed, or if `state` cannot be what flush() returns.
  SafetensorsSpool(int64_t max_shard_bytes, const std::string& path, const Json& state);
  // The file lies in `output` until write() removes it.
  static SafetensorsSpool within(OutputDirectory& output, int64_t max_shard_bytes);

  // `bytes` are the tensor's, in C order; none if the spool is made from shapes alone. Throws Error if there
  // is a tensor of that name.
  void add(const TensorInfo& info, std::span<const std::byte> bytes = {});
  // If the spool is made from shapes alone, the tensor may lie on the meta device.
  void add(const std::string& name, const at::Tensor& tensor);

  // Waits until what was added is on disk. Returns what another spool needs to go on from here.
  Json flush();
  // What flush() would return if nothing were added since the last.
  Json state() const;

  // The files that write() writes: STEM.safetensors, or shards of it.
  std::vector<File> files(const std::string& stem = "model") const;
  // Their index, of the name STEM.safetensors.index.json; "" if there is one file.
  std::string index(const std::string& stem = "model") const;
  // Writes them into `output`, and the index. Returns the names of the files without the index's. Nothing may
  // be added after it.
  std::vector<std::string> write(OutputDirectory& output, const std::string& stem = "model");

  // Of all tensors added so far, without headers.
  int64_t tensor_bytes() const { return tensor_bytes_; }

 private:
  // What lay between two flushes.
  struct Segment {
    int64_t bytes = 0;
    std::string sha256;
  };
  void list(const TensorInfo& info);
  void restore_segments(const Json& segments);
  void restore_entries(const Json& entries);

  int64_t max_shard_bytes_;
  std::string path_;                  // empty: from shapes alone
  bool temporary_ = false;            // the file goes after write()
  std::unique_ptr<OutputFile> file_;  // null: from shapes alone
  std::vector<File::Entry> entries_;  // in the order of their offsets
  std::set<std::string> names_;
  int64_t tensor_bytes_ = 0;
  std::vector<Segment> segments_;
  int64_t segment_begin_ = 0;
  Sha256 segment_hash_;
};

}  // namespace ptq
