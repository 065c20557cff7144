#include "ptq/base/stream_input.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "ptq/base/error.h"
#include "ptq/base/interrupt.h"

namespace ptq {
namespace {

constexpr size_t kPieceBytes = size_t{1} << 16;
constexpr size_t kMaxStreamBytes = size_t{256} << 20;

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

}  // namespace

bool is_stream(const std::string& path) {
  struct stat info{};
  if (::stat(path.c_str(), &info) != 0) return false;
  return S_ISFIFO(info.st_mode) || S_ISCHR(info.st_mode) || S_ISSOCK(info.st_mode);
}

std::string read_stream(const std::string& path, size_t max_bytes) {
  const Descriptor input{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (input.fd < 0) throw Error(path, std::string("cannot open: ") + std::strerror(errno));
  std::string content;
  std::string piece(kPieceBytes, '\0');
  while (true) {
    throw_if_interrupted();
    const ssize_t got = ::read(input.fd, piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw Error(path, std::string("cannot read: ") + std::strerror(errno));
    if (got == 0) return content;
    content.append(piece, 0, static_cast<size_t>(got));
    if (content.size() > max_bytes) {
      throw Error(
          path,
          "more than " + std::to_string(max_bytes) + " bytes come out of this pipe, which is kept in memory",
          "write them to a file and name that");
    }
  }
}

std::shared_ptr<const std::string> text_of_stream(const std::string& path) {
  if (!is_stream(path)) return nullptr;
  return std::make_shared<const std::string>(read_stream(path, kMaxStreamBytes));
}

}  // namespace ptq
