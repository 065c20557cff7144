#include "support/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <stdexcept>
#include <thread>

namespace ptq::testing {
namespace {

constexpr int kLongestSeconds = 120;

struct Pipe {
  int read_end = -1;
  int write_end = -1;
  Pipe() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw std::runtime_error("pipe2 failed");
    read_end = ends[0];
    write_end = ends[1];
  }
};

[[noreturn]] void become(std::vector<char*>& argv, const ProcessOptions& options, const Pipe& out,
                         const Pipe& err) {
  const int nothing = ::open("/dev/null", O_RDONLY);
  ::dup2(nothing, STDIN_FILENO);
  ::dup2(out.write_end, STDOUT_FILENO);
  ::dup2(err.write_end, STDERR_FILENO);
  // Spinning threads on a busy machine would make every test slow.
  ::setenv("OMP_NUM_THREADS", "1", 1);
  ::setenv("OMP_WAIT_POLICY", "passive", 1);
  if (options.max_file_bytes > 0) {
    const rlimit limit{options.max_file_bytes, options.max_file_bytes};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) ::_exit(126);
  }
  if (!options.directory.empty() && ::chdir(options.directory.c_str()) != 0) ::_exit(126);
  ::execv(argv[0], argv.data());
  ::_exit(127);
}

// Appends what is there to read; false at the end.
bool drain(int fd, std::string& text) {
  std::array<char, 65536> buffer{};
  const ssize_t count = ::read(fd, buffer.data(), buffer.size());
  if (count > 0) text.append(buffer.data(), static_cast<size_t>(count));
  return count > 0;
}

void collect(pid_t pid, const ProcessOptions& options, int out, int err, ProcessResult& result) {
  bool signalled = options.signals.empty(), truncated = options.truncate_file.empty();
  std::array<pollfd, 2> files = {{{out, POLLIN, 0}, {err, POLLIN, 0}}};
  const auto start = std::chrono::steady_clock::now();
  while (files[0].fd >= 0 || files[1].fd >= 0) {
    ::poll(files.data(), files.size(), 100);
    if (std::chrono::steady_clock::now() - start > std::chrono::seconds(kLongestSeconds)) {
      ::kill(pid, SIGKILL);
    }
    if (files[0].revents != 0 && !drain(out, result.out)) files[0].fd = -1;
    if (files[1].revents != 0 && !drain(err, result.err)) files[1].fd = -1;
    if (!truncated && result.err.find(options.truncate_after) != std::string::npos)
      truncated = ::truncate(options.truncate_file.c_str(), 1) == 0;
    if (!signalled && result.err.find(options.signal_after) != std::string::npos) {
      signalled = true;
      std::this_thread::sleep_for(std::chrono::milliseconds(options.signal_delay_ms));
      for (const int signal : options.signals) ::kill(pid, signal);
    }
  }
}

}  // namespace

ProcessResult run_process(const std::vector<std::string>& command, const ProcessOptions& options) {
  std::vector<std::string> words = command;
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const Pipe out, err;
  const pid_t pid = ::fork();
  if (pid < 0) throw std::runtime_error("fork failed");
  if (pid == 0) become(argv, options, out, err);
  ::close(out.write_end);
  ::close(err.write_end);
  ProcessResult result;
  collect(pid, options, out.read_end, err.read_end, result);
  ::close(out.read_end);
  ::close(err.read_end);
  int status = 0;
  rusage usage{};
  if (::wait4(pid, &status, 0, &usage) != pid) throw std::runtime_error("wait4 failed");
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  result.peak_rss_bytes = int64_t{usage.ru_maxrss} * 1024;
  return result;
}

}  // namespace ptq::testing
