// Token ids from files, for text that was tokenized elsewhere.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ptq {

// The ids in `path`, in the order of the file.
//
//   .npy       NumPy array, format 1 to 3, signed or unsigned integers of 8 to 64 bits in either byte order,
//              one dimension or two in C order (rows follow each other)
//   any other  raw little-endian integers of the type `dtype`
//
// `dtype` is u8, u16, u32, u64, i8, i16, i32, i64 or NumPy's long name of one; for .npy it may be empty and
// must agree with the file if it is not. Throws Error for a malformed or truncated file, and for an id that
// is negative or does not fit an int64.
std::vector<int64_t> read_token_file(const std::string& path, const std::string& dtype);

}  // namespace ptq
