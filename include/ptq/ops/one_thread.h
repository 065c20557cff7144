// Decompositions of libtorch, and products of long rows with few results, give other bits for another number
// of threads.
#pragma once

#include <ATen/Parallel.h>

namespace ptq {

// One thread for libtorch's operations while it lives.
class OneThread {
 public:
  OneThread() : threads_(at::get_num_threads()) { at::set_num_threads(1); }
  ~OneThread() { at::set_num_threads(threads_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int threads_;
};

}  // namespace ptq
