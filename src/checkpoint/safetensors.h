// The safetensors format.
//
// Goals: what the format's own library accepts is read; everything else is an Error before memory is spent on
// it. Non-goals: types below a byte; the __metadata__ map, which is checked and dropped.
//
// Layout, little-endian:
//   u64   n, the length of the header
//   n     UTF-8 JSON object, which may be padded with spaces:
//         {"NAME": {"dtype": "F16", "shape": [2, 3], "data_offsets": [begin, end]}, ...,
//          "__metadata__": {"key": "text", ...}}
//   rest  the data; offsets count from its start
// Sorted by offset, the tensors tile the data: the first begins at 0, each begins where the one before ends,
// the last ends at the end of the file.
#pragma once

#include "checkpoint/bytes.h"
#include "checkpoint/tensor_file.h"

namespace ptq {

constexpr uint64_t kMaxSafetensorsHeader = 100'000'000;

// True if the file begins like one: a plausible header length and an opening brace.
bool looks_like_safetensors(const ByteSource& source);

// Reads the header. Throws Error. The tensors are sorted by name.
TensorFile parse_safetensors(const ByteSource& source);

}  // namespace ptq
