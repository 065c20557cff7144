// What torch.save has written since PyTorch 1.6: a zip archive.
//
// Goals: tensors located without reading them; archives of torch.save in any of protocols 2 to 5. Non-goals:
// TorchScript archives, compressed records, big-endian files.
//
// Entries, all stored, under one root folder:
//   ROOT/data.pkl    the pickled object; a storage in it is a persistent identifier (see torch_objects.h)
//   ROOT/data/KEY    the bytes of the storage KEY
//   ROOT/byteorder   "little" or "big"; older files have none and are little-endian
//   ROOT/version, .format_version, .storage_alignment, .data/serialization_id: not needed
#pragma once

#include "checkpoint/bytes.h"
#include "checkpoint/tensor_file.h"

namespace ptq {

// Reads index and pickle. Throws Error. The tensors are sorted by name.
TensorFile parse_torch_archive(const ByteSource& source, const std::string& state_key);

}  // namespace ptq
