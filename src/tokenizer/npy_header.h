// The header of NumPy's .npy format.
//
//   \x93NUMPY  major  minor  length  text  data
//
// `length` is a little-endian u16 (version 1) or u32 (2 and 3); `text` is a Python dictionary with exactly
// the keys descr ('<i4'), fortran_order (True, False) and shape ((12, 34) or (12,)). Arrays of structures,
// floats, booleans, more than two dimensions and Fortran order of two are refused.
#pragma once

#include <cstddef>
#include <string>

#include "ptq/base/file.h"

namespace ptq {

struct IntegerType {
  size_t bytes = 0;
  bool is_signed = false;
  bool big_endian = false;
};

struct NpyHeader {
  IntegerType type;
  size_t count = 0;  // product of the shape
  size_t data_offset = 0;
};

// The type of a name such as u16 or uint16, little-endian. Throws Error for others.
IntegerType integer_type(const std::string& name);

// Throws Error if the header is malformed. Does not look at the data.
NpyHeader read_npy_header(const MappedFile& file);

}  // namespace ptq
