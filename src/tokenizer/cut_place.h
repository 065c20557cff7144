// Where a text may be cut in two parts that are turned into tokens one after the other.
#pragma once

namespace ptq {

enum class CutPlace {
  kSpace,    // between an ASCII letter and a space
  kNewline,  // between a line feed that ends a line and a letter that begins the next
};

}  // namespace ptq
