// What a fuzz target does with a file that its parser took: reads every element of every tensor.
#pragma once

#include <cstdlib>
#include <utility>

#include "checkpoint/stored_checkpoint.h"

namespace ptq {

inline void read_all(const ByteSource& source, TensorFile file) {
  StoredCheckpoint checkpoint;
  checkpoint.add_file(source, std::move(file));
  checkpoint.finish();
  size_t total = 0;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    // A small file can name the same elements in many tensors.
    if ((total += static_cast<size_t>(tensor.bytes())) > (size_t{1} << 20)) return;
    const TensorBytes bytes = checkpoint.read(tensor.name);
    if (bytes.bytes.size() != static_cast<size_t>(tensor.bytes())) std::abort();
    unsigned sum = 0;
    for (const std::byte b : bytes.bytes) sum += static_cast<unsigned>(b);
    volatile unsigned keep = sum;
    static_cast<void>(keep);
    checkpoint.drop(tensor.name);
  }
}

}  // namespace ptq
