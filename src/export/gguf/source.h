// A GGUF file as a checkpoint, and its tensors as weights of our architectures.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "export/gguf/architectures.h"
#include "ptq/base/file.h"
#include "ptq/checkpoint/checkpoint.h"
#include "ptq/model/weight.h"

namespace ptq {

// Tensors have the file's names. Those in blocks are U8 [rows, bytes of a row].
class GgufCheckpoint final : public Checkpoint {
 public:
  // Reads the header. Throws Error.
  GgufCheckpoint(const std::string& path, const CheckpointOptions& options);

  TensorBytes read(const std::string& name) const override;
  void drop(const std::string& name) const override;

  const GgufFile& file() const { return file_; }
  const GgufArchitecture& architecture() const { return *architecture_; }
  const GgufTensor& tensor(const std::string& name) const;
  // "Q4_0".
  static std::string type_of(const Checkpoint& checkpoint, const std::string& name);

 private:
  std::shared_ptr<MappedFile> bytes_;
  GgufFile file_;
  const GgufArchitecture* architecture_ = nullptr;
};

// Weights under our names. Q8_0 and Q4_0 are codes in groups of 32, all else the floats that blocks stand
// for.
class GgufSource final : public WeightSource {
 public:
  // `checkpoint` must outlive it. Throws Error for a tensor that the architecture does not have.
  GgufSource(const GgufCheckpoint& checkpoint, at::Device device);

  const TensorInfo* find(const std::string& name) const override;
  Weight read(const std::string& name, Role role, const std::vector<int64_t>& shape) const override;
  std::vector<std::string> names() const override;
  const Json& config() const override { return checkpoint_.config(); }
  bool tied(const std::string&, const std::string&) const override { return false; }
  at::Device device() const override { return device_; }
  // Whether a tensor is in blocks.
  bool quantized() const { return quantized_; }

 private:
  struct Entry {
    TensorInfo info;     // under our name, of our shape
    std::string stored;  // its name in the file
    GgufChange change = GgufChange::kNone;
  };

  const GgufCheckpoint& checkpoint_;
  at::Device device_;
  std::map<std::string, Entry> entries_;
  bool quantized_ = false;
};

}  // namespace ptq
