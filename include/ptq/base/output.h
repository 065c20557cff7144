// Output that appears whole or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ptq/base/interrupt.h"

namespace ptq {

// A file being written from start to end. Every system call is checked: a full disk, a quota, a size limit
// are an Error that names the file and how far it got.
class OutputFile {
 public:
  // Creates the file, which must not exist. Throws Error.
  explicit OutputFile(const std::string& path);
  // Opens a file that exists, cuts it off after `keep_bytes` and goes on there. Throws Error if it is
  // shorter.
  OutputFile(const std::string& path, int64_t keep_bytes);
  // Closes without a check; call close() to know that the bytes are on disk.
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  // Writes all of `bytes`. Throws Error; "interrupted" after a signal.
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  // Bytes written so far.
  int64_t offset() const { return offset_; }
  // Waits until what was written is on disk. Throws Error.
  void flush();
  // Flushes to disk and closes. Throws Error. Nothing may be written after it.
  void close();

 private:
  std::string path_;
  int fd_ = -1;
  int64_t offset_ = 0;
};

// Writes `text` as a whole new file and flushes it to disk. Throws Error.
void write_file(const std::string& path, std::string_view text);

// Waits until the names in a directory are on disk. Throws Error.
void flush_directory(const std::string& path);

// What lies in a directory, sorted: the regular files in it and in its subdirectories ("a", "b/c"), which is
// all that an output may hold; and all else, such as links, deeper directories and empty ones ("d/").
struct OutputContents {
  std::vector<std::string> files;
  std::vector<std::string> others;
};
OutputContents list_output(const std::string& path);

// Whether `directory` is an output of this program that has `file`, by its SHA256SUMS.
bool is_file_of_output(const std::string& directory, const std::string& file);

// The absolute path of an output that may be written. Touches nothing. Throws Error if
//  - the parent does not exist, or is itself an output of this program;
//  - `path` exists and `force` is false;
//  - `path` exists and is not an empty directory or one that this program wrote (its report.json names the
//    program, or its config.json has quant_method "ptq"), or holds links or files that its SHA256SUMS does
//    not list: --force replaces outputs, it does not delete other people's files.
std::string output_path(const std::string& path, bool force);

// The output `name` in the working directory. Throws Error if that directory is gone, and a usage Error if it
// is, or lies in, the directory `source`: an output does not go into the folder that it is made from unasked.
std::string output_here(const std::string& name, const std::string& source);

// Throws the Errors of output_path(), and one if the parent cannot be written to. Touches nothing.
void check_output(const std::string& path, bool force);

// A directory that is filled beside its final name, as `.NAME.PID.partial`, and renamed at the end.
class OutputDirectory {
 public:
  // Makes the temporary directory. Throws Error as output_path() does, and if the parent cannot be written
  // to.
  OutputDirectory(const std::string& path, bool force);
  // Fills the directory `temporary` instead, which is on the same disk and is emptied first. Whoever chose it
  // sees to it that a signal removes it.
  OutputDirectory(const std::string& path, bool force, const std::string& temporary);
  // Removes the temporary directory unless commit() was called.
  ~OutputDirectory();
  OutputDirectory(const OutputDirectory&) = delete;
  OutputDirectory& operator=(const OutputDirectory&) = delete;

  // Where to write `file`, "a" or "b/c", until commit().
  std::string path(const std::string& file) const;
  // Makes the subdirectory `name` unless it is there. Throws Error.
  void make_directory(const std::string& name);
  // Names of the files written so far, sorted.
  std::vector<std::string> files() const;
  const std::string& final_path() const { return final_; }

  // Flushes every file and the directory, then gives it its final name in one system call; with `force` what
  // was there before is removed after that. Where the file system cannot exchange two names, the output of
  // before is for a moment called `.NAME.PID.partial.replaced`. Throws Error, and then the final name is as
  // it was.
  void commit();

 private:
  void replace();
  void discard() noexcept;

  std::string final_;
  std::string temporary_;
  bool force_;
  bool committed_ = false;
  std::unique_ptr<RemoveOnSignal> remove_on_signal_;
};

// What to try after a write that failed with this errno; "" if there is nothing to say.
std::string write_hint(int error);

// Writes SHA256SUMS over every file of the output, in the form that `sha256sum -c` reads. Throws Error.
void write_checksums(OutputDirectory& output);

}  // namespace ptq
