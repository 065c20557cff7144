// A working directory that was removed is said before anything else: libtorch's mathematics library asks for
// it while it is loaded, and ends the process with a message about itself. So this runs before the libraries'
// own initialization, and uses system calls only.
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <cstddef>

namespace {

void expect_working_directory() {
  char path[PATH_MAX];
  if (::syscall(SYS_getcwd, path, sizeof(path)) > 0) return;
  constexpr char message[] =
      "error: the working directory: cannot be used, it was removed\n  try: cd to one that exists\n";
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, message, sizeof(message) - 1);
  ::_exit(1);
}

using Initializer = void (*)();
[[gnu::section(".preinit_array"), gnu::used]] Initializer first = expect_working_directory;

}  // namespace
