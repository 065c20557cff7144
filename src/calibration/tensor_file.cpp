#include "ptq/calibration/tensor_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <span>

#include "ptq/base/error.h"
#include "ptq/base/file.h"
#include "ptq/base/hash.h"
#include "ptq/base/interrupt.h"
#include "ptq/base/memory.h"
#include "ptq/base/output.h"

namespace ptq {
namespace {

constexpr size_t kReadBytes = size_t{1} << 24;

size_t bytes_of(at::IntArrayRef shape, at::ScalarType type) {
  size_t bytes = at::elementSize(type);
  for (const int64_t size : shape) bytes *= static_cast<size_t>(size);
  return bytes;
}

void expect_size(const std::string& path, size_t size, size_t expected) {
  if (size == expected) return;
  throw Error(path,
              "has " + std::to_string(size) + " bytes where " + std::to_string(expected) + " are expected");
}

void expect_hash(const std::string& path, const std::string& found, const std::string& sha256) {
  if (found != sha256) throw Error(path, "is damaged: its hash is not the one in the state");
}

// A file, mapped shared.
class Mapping {
 public:
  // `flags` of open(); the file is given `bytes` if they have O_CREAT.
  Mapping(const std::string& path, size_t bytes, int flags)
      : path_(path), bytes_(bytes), fd_(::open(path.c_str(), flags | O_RDWR | O_CLOEXEC, 0644)) {
    if (fd_ < 0) fail("cannot open", errno);
    // Reserved, because a write to a mapped page that has no space on disk would end the process.
    if ((flags & O_CREAT) != 0) {
      if (const int error = ::posix_fallocate(fd_, 0, static_cast<off_t>(bytes)))
        fail("cannot take " + std::to_string(bytes) + " bytes of the disk", error);
    }
    data_ = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
    if (data_ == MAP_FAILED) fail("cannot map the file", errno);
    watched_.emplace(data_, bytes, path_.c_str(), fd_);
  }
  ~Mapping() {
    watched_.reset();
    ::munmap(data_, bytes_);
    ::close(fd_);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  float* data() const { return static_cast<float*>(data_); }

 private:
  [[noreturn]] void fail(const std::string& what, int error) {
    if (fd_ >= 0) ::close(fd_);
    throw passing_error(path_, what + ": " + std::strerror(error), write_hint(error));
  }

  std::string path_;
  size_t bytes_;
  int fd_;
  void* data_ = nullptr;
  std::optional<WatchedMapping> watched_;
};

Tensor mapped(const std::string& path, at::IntArrayRef shape, int flags) {
  const auto mapping = std::make_shared<Mapping>(path, bytes_of(shape, at::kFloat), flags);
  return at::from_blob(mapping->data(), shape, [mapping](void*) {}, at::TensorOptions().dtype(at::kFloat));
}

std::span<const std::byte> bytes_in(const Tensor& tensor) {
  return {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()};
}

std::string hash_of(std::span<const std::byte> bytes) {
  Sha256 hash;
  for (size_t offset = 0; offset < bytes.size(); offset += kReadBytes) {
    throw_if_interrupted();
    hash.update(bytes.subspan(offset, std::min(kReadBytes, bytes.size() - offset)));
  }
  return hash.hex();
}

}  // namespace

std::string write_tensor(const std::string& path, const Tensor& tensor) {
  const Tensor local = tensor.cpu().contiguous();
  ::unlink(path.c_str());  // of a run that was killed before its state named it
  OutputFile file(path);
  file.write(bytes_in(local));
  file.close();
  return sha256_hex(bytes_in(local));
}

Tensor read_tensor(const std::string& path, at::IntArrayRef shape, at::ScalarType type,
                   const std::string& sha256) {
  const auto file = MappedFile::open(path, /*use_mmap=*/false);
  expect_size(path, file->size(), bytes_of(shape, type));
  Tensor tensor = at::empty(shape, type);
  const std::span data(static_cast<std::byte*>(tensor.mutable_data_ptr()), file->size());
  Sha256 hash;
  for (size_t offset = 0; offset < data.size(); offset += kReadBytes) {
    throw_if_interrupted();
    const std::span part = data.subspan(offset, std::min(kReadBytes, data.size() - offset));
    file->read_into(offset, part);
    hash.update(part);
  }
  expect_hash(path, hash.hex(), sha256);
  return tensor;
}

MappedTensor MappedTensor::create(const std::string& path, at::IntArrayRef shape) {
  ::unlink(path.c_str());
  return {path, mapped(path, shape, O_CREAT | O_EXCL)};
}

MappedTensor MappedTensor::open(const std::string& path, at::IntArrayRef shape, const std::string& sha256) {
  expect_size(path, MappedFile::open(path, /*use_mmap=*/false)->size(), bytes_of(shape, at::kFloat));
  MappedTensor opened(path, mapped(path, shape, 0));
  expect_hash(path, hash_of(bytes_in(opened.tensor_)), sha256);
  opened.drop(opened.tensor_);
  return opened;
}

std::string MappedTensor::flush() {
  if (::msync(tensor_.mutable_data_ptr(), tensor_.nbytes(), MS_SYNC) != 0)
    throw passing_error(path_, std::string("cannot write: ") + std::strerror(errno));
  std::string hash = hash_of(bytes_in(tensor_));
  drop(tensor_);
  return hash;
}

void MappedTensor::rename(const std::string& path) {
  if (::rename(path_.c_str(), path.c_str()) != 0)
    throw passing_error(path_, "cannot be renamed to " + path + ": " + std::strerror(errno));
  path_ = path;
}

void MappedTensor::drop(const Tensor& part) const {
  drop_pages(part.const_data_ptr(), part.nbytes());
}

}  // namespace ptq
