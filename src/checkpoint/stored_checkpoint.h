// A checkpoint made of one or more files whose tensors are byte ranges.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "checkpoint/bytes.h"
#include "checkpoint/tensor_file.h"
#include "ptq/checkpoint/checkpoint.h"

namespace ptq {

class StoredCheckpoint final : public Checkpoint {
 public:
  StoredCheckpoint() = default;

  // Takes the tensors of a file. Throws Error if one is there already, from another file.
  void add_file(const ByteSource& source, TensorFile file);
  // Sorts, strips the shared prefix, leaves out what matches a pattern of `ignore`, finds ties. Called once,
  // after the last file. Throws a usage Error if a pattern matches no tensor and `must_match`.
  void finish(const std::vector<std::string>& ignore = {}, bool must_match = true);
  void set_origin(std::string path, std::string directory);
  void set_config(Json config);
  void add_path(std::string path) { files_.push_back(std::move(path)); }
  void add_note(std::string note) { notes_.push_back(std::move(note)); }

  // The first read of a storage that has a checksum verifies it. Usable from several threads.
  TensorBytes read(const std::string& name) const override;
  void drop(const std::string& name) const override;

 private:
  struct Part {
    ByteSource source;
    std::vector<Storage> storages;
    std::unique_ptr<std::atomic<bool>[]> verified;
  };
  struct Place {  // of the tensor with the same index
    uint32_t part;
    uint32_t storage;
    int64_t first_element;
    std::vector<int64_t> strides;
  };

  size_t index_of(const std::string& name) const;
  std::string where(size_t tensor) const;
  void verify(size_t tensor) const;
  Slice gather(size_t tensor) const;
  void sort();
  void strip_prefixes();
  void leave_out(const std::vector<std::string>& patterns, bool must_match);
  void find_ties();

  std::vector<Part> parts_;
  std::vector<Place> places_;  // parallel to tensors_
};

}  // namespace ptq
