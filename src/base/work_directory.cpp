#include "ptq/base/work_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cassert>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "ptq/base/error.h"
#include "ptq/base/output.h"

namespace ptq {
namespace {

namespace fs = std::filesystem;

// Its presence says that the directory is ours.
constexpr const char* kLockFile = "quantize.lock";

void make_directory(const std::string& path, const std::string& output) {
  if (::mkdir(path.c_str(), 0777) == 0) return;
  if (errno != EEXIST) throw Error(output, std::string("cannot write beside it: ") + std::strerror(errno));
  const std::string hint = "another -o, or move it away";
  if (!fs::is_directory(fs::symlink_status(path))) throw Error(path, "is not a directory", hint);
  if (!fs::is_empty(path) && !fs::is_regular_file(fs::symlink_status(path + "/" + kLockFile))) {
    throw Error(path, "was not made by this program, which would use it for unfinished work", hint);
  }
}

}  // namespace

WorkDirectory::WorkDirectory(const std::string& output) {
  const fs::path target(output);
  path_ = (target.parent_path() / ("." + target.filename().string() + ".partial")).string();
  const SignalShield shield;
  // The run that had the lock may remove the directory between our two calls.
  do {
    make_directory(path_, output);
  } while (!lock());
  keeps_state_ = fs::exists(path(kStateFile));
  if (!keeps_state_) remove_on_signal_ = std::make_unique<RemoveOnSignal>(path_);
}

WorkDirectory::~WorkDirectory() {
  if (!keeps_state_) remove();
  if (lock_ >= 0) ::close(lock_);
}

// False if the directory has gone meanwhile.
bool WorkDirectory::lock() {
  const std::string file = path(kLockFile);
  lock_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
  if (lock_ < 0) {
    if (errno == ENOENT) return false;
    ::rmdir(path_.c_str());  // if it is empty, it was made a moment ago
    throw Error(file, std::string("cannot open: ") + std::strerror(errno));
  }
  const bool locked = ::flock(lock_, LOCK_EX | LOCK_NB) == 0;
  // Some network file systems know no locks: better to run without one than not at all.
  if (!locked && errno == EWOULDBLOCK) {
    ::close(lock_);
    throw Error(path_, "another run is writing this output", "wait for it, or another -o");
  }
  struct stat held{}, named{};
  const bool same = ::fstat(lock_, &held) == 0 && ::stat(file.c_str(), &named) == 0 &&
                    held.st_ino == named.st_ino && held.st_dev == named.st_dev;
  if (!same) ::close(std::exchange(lock_, -1));
  return same;
}

std::string WorkDirectory::path(const std::string& file) const {
  assert(!file.empty() && file.find('/') == std::string::npos && file != "." && file != "..");
  return path_ + "/" + file;
}

void WorkDirectory::write_state(const std::string& text) {
  const std::string beside = path(std::string(kStateFile) + ".next");
  ::unlink(beside.c_str());
  write_file(beside, text);
  if (::rename(beside.c_str(), path(kStateFile).c_str()) != 0) {
    throw passing_error(path(kStateFile), std::string("cannot be replaced: ") + std::strerror(errno));
  }
  flush_directory(path_);
  keeps_state_ = true;
  remove_on_signal_.reset();
}

void WorkDirectory::clear() {
  // The state goes first: what it speaks of must not be missing while it is there.
  ::unlink(path(kStateFile).c_str());
  keeps_state_ = false;
  if (!remove_on_signal_) remove_on_signal_ = std::make_unique<RemoveOnSignal>(path_);
  for (const auto& entry : fs::directory_iterator(path_)) {
    const bool is_directory = fs::is_directory(entry.symlink_status());
    if (!is_directory && entry.path().filename() != kLockFile) fs::remove(entry.path());
  }
}

void WorkDirectory::remove() noexcept {
  ::unlink(path(kStateFile).c_str());
  keeps_state_ = false;
  // The lock goes last: files without it would not be known as ours, should the process be killed in between.
  std::error_code ignored;
  for (fs::directory_iterator entry(path_, ignored), end; !ignored && entry != end;
       entry.increment(ignored)) {
    if (entry->path().filename() != kLockFile) fs::remove_all(entry->path(), ignored);
  }
  fs::remove_all(path_, ignored);
  remove_on_signal_.reset();
}

}  // namespace ptq
