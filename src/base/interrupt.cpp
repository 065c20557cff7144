#include "ptq/base/interrupt.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cassert>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <memory>

#include "ptq/base/error.h"

namespace ptq {
namespace {

// A signal handler can reach nothing but globals, and may touch nothing but lock-free atomics and plain
// memory that an atomic published.
enum SlotState { kFree, kFilling, kInUse };
struct Slot {
  std::atomic<int> state{kFree};
  char path[PATH_MAX] = {};
};
std::array<Slot, RemoveOnSignal::kMaxDirectories> g_slots;
std::atomic<int> g_signals{0};
std::atomic<int> g_shields{0};
std::atomic<const char*> g_deferral{nullptr};  // the message of the InterruptDeferral that lives
static_assert(std::atomic<int>::is_always_lock_free);
std::atomic<const Error*> g_stop{nullptr};  // what stop_with() was given

struct MappingSlot {
  std::atomic<int> state{kFree};
  uintptr_t begin = 0;
  size_t size = 0;
  const char* path = nullptr;
  int fd = 0;
};
std::array<MappingSlot, WatchedMapping::kMaxMappings> g_mappings;
std::atomic<size_t> g_next_mapping{0};  // where the search for a free slot begins

// What getdents64 fills the buffer with: inode (8 bytes), offset (8), length of the entry (2), type (1),
// name.
constexpr long kLengthAt = 16;
constexpr long kNameAt = 19;

constexpr int kDepth = 2;  // of subdirectories that go with a registered directory

// Removes the files of a directory and `depth` levels of its subdirectories, then the directory. Only system
// calls: opendir() would call malloc, which the interrupted thread may be in the middle of. The listing
// starts over after each batch because unlinking while reading may skip entries.
void remove_directory(int parent, const char* path, int depth) {
  const int fd = ::openat(parent, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return;
  alignas(8) char buffer[4096];
  bool removed = true;
  while (removed) {
    removed = false;
    ::lseek(fd, 0, SEEK_SET);
    const long size = ::syscall(SYS_getdents64, fd, buffer, sizeof buffer);
    for (long at = 0; at < size;) {
      uint16_t length = 0;
      std::memcpy(&length, buffer + at + kLengthAt, sizeof length);
      const char* const name = buffer + at + kNameAt;
      if (std::strcmp(name, ".") != 0 && std::strcmp(name, "..") != 0) {
        const bool gone = ::unlinkat(fd, name, 0) == 0;
        if (!gone && errno == EISDIR && depth > 0) remove_directory(fd, name, depth - 1);
        removed |= gone;
      }
      at += length;
    }
  }
  ::close(fd);
  ::unlinkat(parent, path, AT_REMOVEDIR);
}

void remove_registered() {
  for (const Slot& slot : g_slots) {
    if (slot.state.load(std::memory_order_acquire) == kInUse) remove_directory(AT_FDCWD, slot.path, kDepth);
  }
}

void on_stop(int) {
  const int saved = errno;
  const int earlier = g_signals.fetch_add(1);
  if (earlier > 0 && g_shields.load() == 0) {
    end_process(ExitCode::kInterrupted);
  }
  const char* const message = g_deferral.load();
  if (earlier == 0 && message != nullptr) {
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, message, std::strlen(message));
  }
  errno = saved;
}

void on_broken_pipe(int signal) {
  remove_registered();
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

// A message put together without malloc().
class SignalText {
 public:
  SignalText& operator<<(const char* text) {
    while (*text != '\0' && size_ < sizeof text_) text_[size_++] = *text++;
    return *this;
  }
  SignalText& operator<<(uint64_t number) {
    char digits[24];
    size_t first = sizeof digits - 1;
    digits[first] = '\0';
    do {
      digits[--first] = static_cast<char>('0' + number % 10);
      number /= 10;
    } while (number > 0);
    return *this << digits + first;
  }
  void print() const { [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text_, size_); }

 private:
  char text_[PATH_MAX + 512];
  size_t size_ = 0;
};

const MappingSlot* find_mapping(uintptr_t address) {
  for (const MappingSlot& slot : g_mappings) {
    if (slot.state.load(std::memory_order_acquire) != kInUse) continue;
    if (address >= slot.begin && address - slot.begin < slot.size) return &slot;
  }
  return nullptr;
}

void on_bus_error(int signal, siginfo_t* info, void*) {
  const bool by_access = info->si_code > 0;  // not sent by kill()
  const MappingSlot* const mapping =
      by_access ? find_mapping(reinterpret_cast<uintptr_t>(info->si_addr)) : nullptr;
  SignalText text;
  if (mapping == nullptr) {
    if (by_access) (text << "error: a bug of this program, please report it: bus error\n").print();
    std::signal(signal, SIG_DFL);
    std::raise(signal);
    return;
  }
  // Of several threads at the same hole one prints.
  static std::atomic<bool> said{false};
  while (said.exchange(true)) ::pause();
  struct stat status{};
  const bool shrank =
      ::fstat(mapping->fd, &status) == 0 && static_cast<size_t>(status.st_size) < mapping->size;
  text << "error: " << mapping->path << ": ";
  if (shrank) {
    text << "the file shrank from " << uint64_t{mapping->size} << " to "
         << static_cast<uint64_t>(status.st_size) << " bytes while it was read";
  } else {
    text << "cannot be read: input/output error";
  }
  text << "\n  try: put the file back as it was; what --resume can go on from is kept\n";
  text.print();
  remove_registered();
  ::_exit(static_cast<int>(ExitCode::kFailed));
}

void handle(int signal, void (*handler)(int)) {
  struct sigaction action{};
  action.sa_handler = handler;
  // Restarting keeps third-party code that does not expect EINTR working; our loops look at the flag.
  action.sa_flags = SA_RESTART;
  ::sigemptyset(&action.sa_mask);
  ::sigaction(signal, &action, nullptr);
}

}  // namespace

void install_interrupt_handlers() {
  handle(SIGINT, on_stop);
  handle(SIGTERM, on_stop);
  struct sigaction hangup{};
  ::sigaction(SIGHUP, nullptr, &hangup);
  if (hangup.sa_handler != SIG_IGN) handle(SIGHUP, on_stop);
  handle(SIGPIPE, on_broken_pipe);
  handle(SIGXFSZ, SIG_IGN);
  struct sigaction bus_error{};
  bus_error.sa_sigaction = on_bus_error;
  bus_error.sa_flags = SA_SIGINFO;
  ::sigemptyset(&bus_error.sa_mask);
  ::sigaction(SIGBUS, &bus_error, nullptr);
}

bool interrupted() {
  return g_signals.load(std::memory_order_relaxed) > 0;
}

void stop_with(const Error& error) {
  auto kept = std::make_unique<const Error>(error);
  const Error* none = nullptr;
  if (g_stop.compare_exchange_strong(none, kept.get()))
    kept.release();  // another thread may read it to the end
}

void end_process(ExitCode code) {
  remove_registered();
  ::_exit(static_cast<int>(code));
}

void throw_if_interrupted() {
  if (const Error* const error = g_stop.load(std::memory_order_acquire)) throw *error;
  if (interrupted() && g_deferral.load(std::memory_order_relaxed) == nullptr) {
    throw Error("", "interrupted", "", ExitCode::kInterrupted);
  }
}

InterruptDeferral::InterruptDeferral(const char* message) {
  g_deferral.store(message);
}
InterruptDeferral::~InterruptDeferral() {
  g_deferral.store(nullptr);
}

RemoveOnSignal::RemoveOnSignal(const std::string& directory) : slot_(-1) {
  assert(directory.starts_with('/') && directory.size() < PATH_MAX);
  for (int i = 0; i < kMaxDirectories; ++i) {
    int expected = kFree;
    if (!g_slots[static_cast<size_t>(i)].state.compare_exchange_strong(expected, kFilling)) continue;
    slot_ = i;
    Slot& slot = g_slots[static_cast<size_t>(i)];
    std::memcpy(slot.path, directory.c_str(), directory.size() + 1);
    slot.state.store(kInUse, std::memory_order_release);
    return;
  }
  throw Error(directory, "too many temporary directories at once", "", ExitCode::kBug);
}

RemoveOnSignal::~RemoveOnSignal() {
  g_slots[static_cast<size_t>(slot_)].state.store(kFree);
}

WatchedMapping::WatchedMapping(const void* data, size_t size, const char* path, int fd)
    : slot_(kMaxMappings) {
  const size_t first = g_next_mapping.fetch_add(1);
  for (size_t i = 0; i < kMaxMappings; ++i) {
    const size_t at = (first + i) % kMaxMappings;
    MappingSlot& slot = g_mappings[at];
    int expected = kFree;
    if (!slot.state.compare_exchange_strong(expected, kFilling)) continue;
    slot_ = at;
    slot.begin = reinterpret_cast<uintptr_t>(data);
    slot.size = size;
    slot.path = path;
    slot.fd = fd;
    slot.state.store(kInUse, std::memory_order_release);
    return;
  }
}

WatchedMapping::~WatchedMapping() {
  if (slot_ < kMaxMappings) g_mappings[slot_].state.store(kFree);
}

SignalShield::SignalShield() {
  g_shields.fetch_add(1);
}
SignalShield::~SignalShield() {
  g_shields.fetch_sub(1);
}

}  // namespace ptq
