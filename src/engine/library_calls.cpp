#include "ptq/engine/library_calls.h"

#include <ATen/record_function.h>

#include <memory>
#include <string_view>

#include "ptq/base/clock.h"

namespace ptq {
namespace {

// The callbacks of libtorch are plain functions, so what they count is the thread's.
struct Counter {
  LibraryCalls calls;
  int depth = 0;  // of libtorch's operations that are running
  Stopwatch clock;
};
thread_local Counter* counter = nullptr;

bool is_ours(const at::RecordFunction& function) {
  return std::string_view(function.name()).starts_with("ptq::");
}

std::unique_ptr<at::ObserverContext> begin(const at::RecordFunction& function) {
  if (is_ours(function)) return nullptr;
  if (counter->depth++ == 0) {
    ++counter->calls.count;
    counter->clock.restart();
  }
  return nullptr;
}

void end(const at::RecordFunction& function, at::ObserverContext*) {
  if (is_ours(function)) return;
  if (--counter->depth == 0) counter->calls.seconds += counter->clock.elapsed_seconds();
}

class Counting {
 public:
  explicit Counting(Counter& own)
      : handle_(at::addThreadLocalCallback(
            at::RecordFunctionCallback(begin, end).scopes({at::RecordScope::FUNCTION}))) {
    counter = &own;
  }
  ~Counting() {
    at::removeCallback(handle_);
    counter = nullptr;
  }
  Counting(const Counting&) = delete;
  Counting& operator=(const Counting&) = delete;

 private:
  at::CallbackHandle handle_;
};

}  // namespace

LibraryCalls count_library_calls(const std::function<void()>& work) {
  Counter own;
  {
    const Counting counting(own);
    work();
  }
  return own.calls;
}

}  // namespace ptq
