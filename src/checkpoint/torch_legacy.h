// What torch.save wrote from PyTorch 0.4 to 1.5, and writes with _use_new_zipfile_serialization=False.
//
// Goals: state dicts and modules of that form. Non-goals: the tar files before it, big-endian files.
//
// Layout: pickles in a row, then raw bytes.
//   pickle   the number 0x1950a86a20f9469cfc6c
//   pickle   the number 1001, the version
//   pickle   a dict that describes the machine: little_endian must be true
//   pickle   the object; a storage in it is a persistent identifier (see torch_objects.h)
//   pickle   the list of the storages' keys
//   then for each key, in that order: a 64-bit count of elements and the elements
#pragma once

#include "checkpoint/bytes.h"
#include "checkpoint/tensor_file.h"

namespace ptq {

// Reads the pickles and where the storages lie. Throws Error. The tensors are sorted by name.
TensorFile parse_torch_legacy(const ByteSource& source, const std::string& state_key);

}  // namespace ptq
