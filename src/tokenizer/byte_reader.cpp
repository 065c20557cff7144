#include "tokenizer/byte_reader.h"

#include <sys/stat.h>
#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "ptq/base/error.h"
#include "ptq/base/file.h"

namespace ptq {
namespace {

constexpr size_t kCompressedPiece = size_t{1} << 16;

class FileBytes : public ByteReader {
 public:
  explicit FileBytes(const std::string& path) : file_(MappedFile::open(path, /*use_mmap=*/false)) {}

  size_t read(std::span<char> out) override {
    const size_t count = std::min(out.size(), file_->size() - at_);
    file_->read_into(at_, std::as_writable_bytes(out.first(count)));
    at_ += count;
    return count;
  }

 private:
  std::shared_ptr<MappedFile> file_;
  size_t at_ = 0;
};

class MemoryBytes : public ByteReader {
 public:
  explicit MemoryBytes(std::shared_ptr<const std::string> content) : content_(std::move(content)) {}

  size_t read(std::span<char> out) override {
    const size_t count = std::min(out.size(), content_->size() - at_);
    std::memcpy(out.data(), content_->data() + at_, count);
    at_ += count;
    return count;
  }

 private:
  std::shared_ptr<const std::string> content_;
  size_t at_ = 0;
};

class PutBack : public ByteReader {
 public:
  PutBack(std::string head, std::unique_ptr<ByteReader> rest)
      : head_(std::move(head)), rest_(std::move(rest)) {}

  size_t read(std::span<char> out) override {
    const size_t count = std::min(out.size(), head_.size() - at_);
    std::memcpy(out.data(), head_.data() + at_, count);
    at_ += count;
    return count + rest_->read(out.subspan(count));
  }

 private:
  std::string head_;
  size_t at_ = 0;
  std::unique_ptr<ByteReader> rest_;
};

class Gunzip : public ByteReader {
 public:
  Gunzip(std::unique_ptr<ByteReader> compressed, std::string path)
      : compressed_(std::move(compressed)), path_(std::move(path)), input_(kCompressedPiece) {
    // 16: a gzip header and nothing else.
    if (inflateInit2(&stream_, MAX_WBITS + 16) != Z_OK) throw std::bad_alloc();
  }
  ~Gunzip() override { inflateEnd(&stream_); }
  Gunzip(const Gunzip&) = delete;
  Gunzip& operator=(const Gunzip&) = delete;

  size_t read(std::span<char> out) override {
    size_t done = 0;
    while (done < out.size() && !finished_) {
      if (stream_.avail_in == 0 && !refill()) {
        throw Error(path_, "the file ends inside its gzip data: it is not complete",
                    "fetch or copy the file again");
      }
      stream_.next_out = reinterpret_cast<Bytef*>(out.data() + done);
      stream_.avail_out = static_cast<uInt>(std::min(out.size() - done, kCompressedPiece));
      const uInt room = stream_.avail_out;
      const int status = inflate(&stream_, Z_NO_FLUSH);
      done += room - stream_.avail_out;
      if (status == Z_STREAM_END) {
        begin_next_member();
      } else if (status != Z_OK && status != Z_BUF_ERROR) {
        throw Error(
            path_,
            std::string("its gzip data is damaged: ") + (stream_.msg != nullptr ? stream_.msg : "zlib"),
            "fetch or copy the file again");
      }
    }
    return done;
  }

 private:
  bool refill() {
    const size_t count = compressed_->read(input_);
    stream_.next_in = reinterpret_cast<Bytef*>(input_.data());
    stream_.avail_in = static_cast<uInt>(count);
    return count > 0;
  }

  // Zeros pad an archive to the blocks of a tape.
  void begin_next_member() {
    while (true) {
      while (stream_.avail_in > 0 && *stream_.next_in == 0) {
        ++stream_.next_in;
        --stream_.avail_in;
      }
      if (stream_.avail_in > 0) break;
      if (!refill()) {
        finished_ = true;
        return;
      }
    }
    constexpr Bytef kFirstByte = 0x1F;
    if (*stream_.next_in != kFirstByte)
      throw Error(path_, "something that is not gzip data follows its gzip data");
    inflateReset(&stream_);
  }

  std::unique_ptr<ByteReader> compressed_;
  std::string path_;
  std::vector<char> input_;
  z_stream stream_{};
  bool finished_ = false;
};

}  // namespace

std::unique_ptr<ByteReader> open_bytes(const std::string& path, std::shared_ptr<const std::string> content) {
  struct stat info{};
  const bool empty =
      content == nullptr && ::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) && info.st_size == 0;
  if (empty) content = std::make_shared<const std::string>();  // MappedFile refuses it
  if (content != nullptr) return std::make_unique<MemoryBytes>(std::move(content));
  return std::make_unique<FileBytes>(path);
}

std::unique_ptr<ByteReader> put_back(std::string head, std::unique_ptr<ByteReader> rest) {
  return std::make_unique<PutBack>(std::move(head), std::move(rest));
}

std::unique_ptr<ByteReader> gunzip(std::unique_ptr<ByteReader> compressed, const std::string& path) {
  return std::make_unique<Gunzip>(std::move(compressed), path);
}

}  // namespace ptq
