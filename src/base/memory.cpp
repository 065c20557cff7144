#include "ptq/base/memory.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include <algorithm>
#include <charconv>
#include <fstream>
#include <limits>
#include <optional>
#include <string>

namespace ptq {
namespace {

// The number after `key` at the start of a line of a /proc or cgroup file ("VmHWM:   123 kB"); with an empty
// key, the number the file starts with. nullopt if the file, the key or the number is missing ("max").
std::optional<int64_t> number_after(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    const size_t begin = line.find_first_not_of(" \t", key.size());
    if (begin == std::string::npos) return std::nullopt;
    int64_t value = 0;
    const auto result = std::from_chars(line.data() + begin, line.data() + line.size(), value);
    if (result.ec != std::errc()) return std::nullopt;
    return value;
  }
  return std::nullopt;
}

// What one control group leaves. `current` counts the page cache too, most of which the kernel can drop: a
// mapped model would otherwise look like memory that is gone.
int64_t left_in_group(const std::string& group) {
  const auto limit = number_after(group + "/memory.max", "");
  const auto used = number_after(group + "/memory.current", "");
  if (!limit || !used) return std::numeric_limits<int64_t>::max();
  const int64_t cache = number_after(group + "/memory.stat", "inactive_file ").value_or(0) +
                        number_after(group + "/memory.stat", "active_file ").value_or(0);
  return std::max<int64_t>(0, *limit - std::max<int64_t>(0, *used - cache));
}

// The least that the process's control group (version 2) and its ancestors leave.
int64_t left_in_groups() {
  std::string path;
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("0::/")) path = line.substr(3);
  }
  int64_t left = left_in_group("/sys/fs/cgroup");
  while (path.size() > 1) {
    left = std::min(left, left_in_group("/sys/fs/cgroup" + path));
    path.resize(path.rfind('/'));
  }
  return left;
}

}  // namespace

int64_t peak_rss_bytes() {
  // getrusage() carries the peak of the program that called exec() over into ours; VmHWM starts afresh.
  if (const auto kib = number_after("/proc/self/status", "VmHWM:")) return *kib * 1024;
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * 1024;
}

int64_t available_memory_bytes() {
  const auto kib = number_after("/proc/meminfo", "MemAvailable:");
  if (!kib) return -1;
  return std::min(*kib * 1024, left_in_groups());
}

void drop_pages(const void* data, size_t bytes) {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<uintptr_t>(data);
  const uintptr_t begin = (address + page - 1) / page * page, end = (address + bytes) / page * page;
  if (end > begin) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

void return_free_memory() {
#if defined(__GLIBC__)
  ::malloc_trim(0);
#endif
}

}  // namespace ptq
