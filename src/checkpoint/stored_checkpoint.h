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
  // Gives the tensors their published names (names.h), sorts them, leaves out what matches a pattern of
  // `ignore`, finds ties. One that two files hold with the same bytes is kept once; of other bytes is an
  // Error. Called once, after the last file and set_config(). Throws a usage Error if a pattern matches no
  // tensor and `must_match`.
  void finish(const std::vector<std::string>& ignore = {}, bool must_match = true);
  void set_origin(std::string path, std::string directory);
  void set_config(Json config);
  void add_path(std::string path) { files_.push_back(std::move(path)); }
  void add_note(std::string note) { notes_.push_back(std::move(note)); }
  void add_warning(std::string warning) { warnings_.push_back(std::move(warning)); }

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
  // Makes of each tensor that holds the matrices of all experts one an expert.
  void split_experts();
  // Keeps the tensors at these places, in this order.
  void select(const std::vector<size_t>& order);
  void sort();
  void drop_copies();
  bool same_bytes(size_t a, size_t b) const;
  void drop_storage(size_t tensor) const;
  void leave_out(const std::vector<std::string>& patterns, bool must_match);
  void find_ties();

  std::vector<Part> parts_;
  std::vector<Place> places_;  // parallel to tensors_
  bool is_training_checkpoint_ = false;
};

}  // namespace ptq
