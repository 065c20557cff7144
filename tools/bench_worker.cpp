#include "bench_worker.h"

#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <optional>

#include "ptq/base/error.h"
#include "ptq/base/interrupt.h"

// Messages are lines: "measure" to the child, JSON back, {"error": ..., "code": ...} if it failed.
namespace ptq {
namespace {

void send_line(int socket, const std::string& text) {
  const std::string line = text + "\n";
  for (size_t sent = 0; sent < line.size();) {
    // A process that has ended is seen when its answer is read.
    const ssize_t bytes = ::send(socket, line.data() + sent, line.size() - sent, MSG_NOSIGNAL);
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0) return;
    sent += static_cast<size_t>(bytes);
  }
}

// The next line; nullopt at the end. `received` holds what came after it.
std::optional<std::string> receive_line(int socket, std::string& received) {
  while (true) {
    if (const size_t end = received.find('\n'); end != std::string::npos) {
      std::string line = received.substr(0, end);
      received.erase(0, end + 1);
      return line;
    }
    std::array<char, 4096> buffer;
    const ssize_t bytes = ::read(socket, buffer.data(), buffer.size());
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes <= 0) return std::nullopt;
    received.append(buffer.data(), static_cast<size_t>(bytes));
  }
}

Json error_json(const std::string& what, ExitCode code) {
  return {{"error", what}, {"code", static_cast<int>(code)}};
}

void serve(int socket, const std::function<BenchSubject()>& make) {
  const BenchSubject subject = make();
  send_line(socket, subject.about.dump());
  std::string received;
  while (receive_line(socket, received)) send_line(socket, subject.measure().dump());
}

// Ends without the destructors of what belongs to the parent.
[[noreturn]] void run_child(int socket, const std::function<BenchSubject()>& make) {
  try {
    serve(socket, make);
  } catch (const Error& error) {
    send_line(socket, error_json(error.what(), error.exit_code()).dump());
  } catch (const std::bad_alloc&) {
    send_line(socket, error_json("out of memory", ExitCode::kFailed).dump());
  } catch (const std::exception& error) {
    const std::string what = std::string("a bug of this program, please report it: ") + error.what();
    send_line(socket, error_json(what, ExitCode::kBug).dump());
  }
  std::_Exit(0);
}

}  // namespace

BenchWorker::BenchWorker(const std::string& name, const std::function<BenchSubject()>& make) : name_(name) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()) != 0)
    throw Error(name, std::string("cannot make a socket: ") + std::strerror(errno));
  process_ = ::fork();
  if (process_ == 0) {
    ::close(ends[0]);
    run_child(ends[1], make);
  }
  ::close(ends[1]);
  socket_ = ends[0];
  if (process_ < 0) {
    ::close(socket_);
    throw Error(name, std::string("cannot make a process: ") + std::strerror(errno));
  }
  try {
    about_ = receive();
  } catch (...) {
    ::close(socket_);
    ::waitpid(process_, nullptr, 0);
    throw;
  }
}

BenchWorker::~BenchWorker() {
  // Not close() alone: processes that were made later have a copy of this end.
  ::shutdown(socket_, SHUT_RDWR);
  ::close(socket_);
  while (::waitpid(process_, nullptr, 0) < 0 && errno == EINTR) continue;
}

Json BenchWorker::receive() {
  const std::optional<std::string> line = receive_line(socket_, received_);
  throw_if_interrupted();
  if (!line) {
    throw Error(name_, "the process that measures it has ended: the system may have run out of memory",
                "fewer models at a time, or a smaller --batch or --prompt");
  }
  Json json = parse_json(*line, name_);
  if (json.contains("error")) {
    throw Error("", json["error"].get<std::string>(), "", static_cast<ExitCode>(json["code"].get<int>()));
  }
  return json;
}

Json BenchWorker::measure() {
  send_line(socket_, "measure");
  return receive();
}

}  // namespace ptq
