// A tensor as the bare bytes of a file, which its reader knows shape and dtype of.
#pragma once

#include <ATen/ATen.h>

#include <string>

namespace ptq {

using at::Tensor;

// Writes the tensor's bytes, whatever was there, and flushes them. Returns their SHA-256. Throws Error.
std::string write_tensor(const std::string& path, const Tensor& tensor);

// The tensor that write_tensor() wrote. Memory is taken only if the file has the size. Throws Error if it has
// not, or if its hash is not `sha256`.
Tensor read_tensor(const std::string& path, at::IntArrayRef shape, at::ScalarType type,
                   const std::string& sha256);

// A float32 tensor whose memory is the file: what is written to the one is in the other. The file stays when
// the tensor goes. A file that is cut off meanwhile ends the process with a message.
class MappedTensor {
 public:
  MappedTensor() = default;
  // Makes the file, in place of another, with its space on disk reserved. Throws Error.
  static MappedTensor create(const std::string& path, at::IntArrayRef shape);
  // Throws Error as read_tensor() does.
  static MappedTensor open(const std::string& path, at::IntArrayRef shape, const std::string& sha256);

  const Tensor& tensor() const { return tensor_; }
  const std::string& path() const { return path_; }
  // Waits until what was written is on disk. Returns the SHA-256 of the bytes.
  std::string flush();
  // Gives the file another name in its directory, in place of a file that has it.
  void rename(const std::string& path);
  // Lets the pages behind `part`, a contiguous view of the tensor, leave resident memory.
  void drop(const Tensor& part) const;

 private:
  MappedTensor(std::string path, Tensor tensor) : path_(std::move(path)), tensor_(std::move(tensor)) {}

  std::string path_;
  Tensor tensor_;
};

}  // namespace ptq
