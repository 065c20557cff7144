// The kind of a file, told from its first bytes: names lie.
#pragma once

#include <string>

#include "checkpoint/bytes.h"
#include "checkpoint/tensor_file.h"

namespace ptq {

enum class FileKind { kSafetensors, kTorchArchive, kTorchLegacy, kIndex };

// Throws Error, which names what the file is if that can be told, for anything else.
FileKind file_kind(const ByteSource& source);

// Reads the headers of a file of any kind but kIndex. Throws Error.
TensorFile parse_tensor_file(const ByteSource& source, const std::string& state_key);

}  // namespace ptq
