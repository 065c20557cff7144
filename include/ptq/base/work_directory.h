// Where a run keeps what it needs to be continued after it was stopped.
#pragma once

#include <memory>
#include <string>

#include "ptq/base/interrupt.h"

namespace ptq {

// The directory `.NAME.partial` beside the output NAME. One process has it at a time. It goes with the
// object, or with the process that a signal ends, unless it keeps state: then only clear() and remove() empty
// it, and a later run finds it again.
class WorkDirectory {
 public:
  // Makes the directory, or takes over the one that a run left, and locks it. `output` is an output_path().
  // Throws Error if another process has the lock, if the directory cannot be made, or if something of that
  // name was not made by this class.
  explicit WorkDirectory(const std::string& output);
  ~WorkDirectory();
  WorkDirectory(const WorkDirectory&) = delete;
  WorkDirectory& operator=(const WorkDirectory&) = delete;

  const std::string& path() const { return path_; }
  // Where to write `file`, a plain name.
  std::string path(const std::string& file) const;

  // Whether a file kStateFile is there, since whatever wrote it.
  static constexpr const char* kStateFile = "state";
  bool keeps_state() const { return keeps_state_; }

  // Makes `text` the state: afterwards the disk holds it, or, if the machine stops meanwhile, the state of
  // before. What the text speaks of must be flushed already. Throws Error.
  void write_state(const std::string& text);

  // Removes every file in it, so that there is no state. Subdirectories stay.
  void clear();
  // Removes the directory: the run is over. Nothing else may be called.
  void remove() noexcept;

 private:
  bool lock();

  std::string path_;
  int lock_ = -1;
  bool keeps_state_ = false;
  std::unique_ptr<RemoveOnSignal> remove_on_signal_;  // while it keeps no state
};

}  // namespace ptq
