// An output of one file, which appears whole or not at all.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "ptq/base/output.h"

namespace ptq {

// Filled beside its final name, in a folder that a signal removes, and renamed at the end.
class WholeFile {
 public:
  // Throws Error if something is at `path`, or its folder cannot be written.
  explicit WholeFile(const std::string& path);
  // Removes the unfinished file unless commit() was called.
  ~WholeFile();
  WholeFile(const WholeFile&) = delete;
  WholeFile& operator=(const WholeFile&) = delete;

  // To write to, until commit().
  OutputFile& file() { return *file_; }
  // Flushes the file to disk and gives it its name. Throws Error.
  void commit();
  // Of the whole, after commit().
  int64_t bytes() const { return bytes_; }

 private:
  std::string path_, temporary_;
  std::unique_ptr<RemoveOnSignal> remove_on_signal_;
  std::optional<OutputFile> file_;
  int64_t bytes_ = 0;
};

}  // namespace ptq
