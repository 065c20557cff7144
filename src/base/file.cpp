#include "ptq/base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <limits>

#include "ptq/base/error.h"
#include "ptq/base/memory.h"

namespace ptq {
namespace {

namespace fs = std::filesystem;

Error cannot_open(const std::string& path, int error) {
  std::error_code failed;
  if (error == ENOENT && fs::is_symlink(fs::symlink_status(path, failed))) {
    return passing_error(
        path, "is a symbolic link to " + fs::read_symlink(path, failed).string() + ", which does not exist",
        "download the file again, or copy it with `cp -L` from where it lies");
  }
  return passing_error(path, std::string("cannot open: ") + std::strerror(error));
}

}  // namespace

std::string read_file(const std::string& path, size_t max_bytes) {
  // Opened unmapped: small text files are copied anyway, and a FIFO or directory is refused by open().
  struct stat info{};
  if (::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) && info.st_size == 0) return {};
  const auto file = MappedFile::open(path, /*use_mmap=*/false);
  if (file->size() > max_bytes) {
    throw Error(path, "the file has " + std::to_string(file->size()) + " bytes; at most " +
                          std::to_string(max_bytes) + " are read");
  }
  std::string text(file->size(), '\0');
  file->read_into(0, std::as_writable_bytes(std::span(text)));
  return text;
}

std::shared_ptr<MappedFile> MappedFile::open(const std::string& path, bool use_mmap) {
  std::shared_ptr<MappedFile> file(new MappedFile());
  file->path_ = path;
  // O_NONBLOCK: opening a FIFO must not wait for a writer before fstat() can refuse it.
  file->fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file->fd_ < 0) throw cannot_open(path, errno);
  struct stat info{};
  if (::fstat(file->fd_, &info) != 0)
    throw passing_error(path, std::string("cannot stat: ") + std::strerror(errno));
  if (!S_ISREG(info.st_mode))
    throw Error(path, S_ISDIR(info.st_mode) ? "is a directory" : "is not a regular file");
  if (info.st_size == 0) throw passing_error(path, "the file is empty");
  file->size_ = static_cast<size_t>(info.st_size);
  if (use_mmap) {
    // Writable and private, so that a tensor that borrows the bytes may be written to without touching the
    // file; NORESERVE, so that a model larger than memory can be mapped.
    void* address =
        ::mmap(nullptr, file->size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, file->fd_, 0);
    if (address == MAP_FAILED) {
      throw passing_error(path, std::string("cannot map the file: ") + std::strerror(errno), "--no-mmap");
    }
    file->data_ = static_cast<const std::byte*>(address);
    file->watched_.emplace(address, file->size_, file->path_.c_str(), file->fd_);
  }
  return file;
}

MappedFile::~MappedFile() {
  watched_.reset();
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
  if (fd_ >= 0) ::close(fd_);
}

void MappedFile::read_into(size_t offset, std::span<std::byte> out) const {
  if (offset > size_ || out.size() > size_ - offset) {
    throw Error(path_, "bytes " + std::to_string(offset) + " to " + std::to_string(offset + out.size()) +
                           " lie outside the file of " + std::to_string(size_));
  }
  if (mapped()) {
    std::memcpy(out.data(), data_ + offset, out.size());
    return;
  }
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t got = ::pread(fd_, out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0)
      throw passing_error(path_, got == 0 ? "the file shrank while it was read" : std::strerror(errno));
    done += static_cast<size_t>(got);
  }
}

void MappedFile::drop(size_t offset, size_t length) const {
  if (mapped()) drop_pages(data_ + offset, length);
}

std::string last_name(const std::string& path) {
  std::error_code failed;
  fs::path full = fs::path(path).lexically_normal();
  if (full.filename().empty()) full = full.parent_path();
  const fs::path name = full.filename();
  if (!name.empty() && name != "." && name != "..") return name.string();
  full = fs::canonical(path.empty() ? "." : path, failed);
  return failed ? name.string() : full.filename().string();
}

}  // namespace ptq
