// A file that torch.load(PATH, weights_only=True) reads: a dict of tensors and texts.
//
// A zip of stored entries, as torch.save writes it: archive/data/N, the bytes of the N-th tensor, and
// archive/data.pkl, a pickle of protocol 2 that puts them together. The pickle comes last, so that tensors
// are written as they are made.
#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <string>
#include <string_view>

#include "export/whole_file.h"

namespace caffe2::serialize {
class PyTorchStreamWriter;
}

namespace ptq {

class TorchFile {
 public:
  // Throws Error if something is at `path`, or its folder cannot be written.
  explicit TorchFile(const std::string& path);
  ~TorchFile();

  // Keys are UTF-8, each once. Tensors are of bool, integers up to 64 bits, or floats of 16 to 64 bits.
  void add(const std::string& key, const at::Tensor& tensor);
  void add(const std::string& key, std::string_view text);
  // Throws Error.
  void commit();
  int64_t bytes() const { return output_.bytes(); }

 private:
  void add_text(std::string_view text);
  void add_integer(int64_t value);

  WholeFile output_;
  std::unique_ptr<caffe2::serialize::PyTorchStreamWriter> zip_;
  std::string pickle_;
  int64_t tensors_ = 0;
};

}  // namespace ptq
