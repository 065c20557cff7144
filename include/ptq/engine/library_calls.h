// How often a piece of work calls libtorch, and how long that takes: in decoding one token, a call costs as
// much as the arithmetic of a small product.
#pragma once

#include <cstdint>
#include <functional>

namespace ptq {

struct LibraryCalls {
  int64_t count = 0;
  double seconds = 0;  // in them; seeing them costs a part of it
};

// Runs `work` and returns the calls of libtorch's operations that this thread makes in it: views and
// allocations too, but not what an operation calls itself, nor the operations of this program (ptq::).
LibraryCalls count_library_calls(const std::function<void()>& work);

}  // namespace ptq
