// Ctrl-C and its relatives: the first asks the program to stop at the next safe place, the second stops it at
// once. Either way no registered directory stays behind. And the signal of a mapped file that shrinks.
#pragma once

#include <cstddef>
#include <string>

#include "ptq/base/error.h"

namespace ptq {

// SIGINT, SIGTERM and SIGHUP (unless it was ignored, as nohup does): the first of them sets the flag that
// throw_if_interrupted() reads; the second removes the registered directories and ends the process with exit
// code kInterrupted. SIGPIPE removes them and ends the process as it does by default. SIGXFSZ is ignored, so
// that a file over the size limit is an Error of the write. SIGBUS at an address of a WatchedMapping removes
// them, prints one error that names the file and ends the process with exit code kFailed; at any other
// address it says that this is a bug and ends the process as it does by default. Called once, at the start of
// main.
void install_interrupt_handlers();

// True after the first signal.
bool interrupted();

// Throws Error "interrupted" with exit code kInterrupted after the first signal, unless an InterruptDeferral
// lives. Cheap: call it in every loop whose turn may take more than a tenth of a second.
void throw_if_interrupted();

// From here on throw_if_interrupted() throws `error`, whether an InterruptDeferral lives or not: for a thread
// that has learned that the work is lost. The first call counts.
void stop_with(const Error& error);

// Ends the process at once, as the second signal does: the registered directories are removed.
[[noreturn]] void end_process(ExitCode code);

// While it lives, throw_if_interrupted() does nothing: what was begun is finished first, and the first signal
// says so on stderr. A second one still ends the process at once.
class InterruptDeferral {
 public:
  // `message` is what the signal prints; it must be a literal. One deferral at a time.
  explicit InterruptDeferral(const char* message);
  ~InterruptDeferral();
  InterruptDeferral(const InterruptDeferral&) = delete;
  InterruptDeferral& operator=(const InterruptDeferral&) = delete;
};

// While it lives, a signal that ends the process first removes `directory`, the files in it and in two levels
// of subdirectories. Up to kMaxDirectories at a time; more are a bug of the caller.
class RemoveOnSignal {
 public:
  static constexpr int kMaxDirectories = 16;

  // REQUIRES: `directory` is absolute and shorter than PATH_MAX.
  explicit RemoveOnSignal(const std::string& directory);
  ~RemoveOnSignal();
  RemoveOnSignal(const RemoveOnSignal&) = delete;
  RemoveOnSignal& operator=(const RemoveOnSignal&) = delete;

 private:
  int slot_;
};

// While it lives, touching a page of a mapped file that the file no longer has, in any thread, ends the
// process with a message that names the file: there is no way to go on from there. Up to kMaxMappings at a
// time; more are not watched.
class WatchedMapping {
 public:
  static constexpr size_t kMaxMappings = 16'384;

  // `path` and the descriptor `fd` of the file must outlive it.
  WatchedMapping(const void* data, size_t size, const char* path, int fd);
  ~WatchedMapping();
  WatchedMapping(const WatchedMapping&) = delete;
  WatchedMapping& operator=(const WatchedMapping&) = delete;

 private:
  size_t slot_;  // kMaxMappings: none was free
};

// While it lives, a second signal only waits: for the few system calls between which the output has no name.
class SignalShield {
 public:
  SignalShield();
  ~SignalShield();
  SignalShield(const SignalShield&) = delete;
  SignalShield& operator=(const SignalShield&) = delete;
};

}  // namespace ptq
