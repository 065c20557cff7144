# shellcheck shell=bash
# Functions that the scripts share. Sourced, not run; leaves the working directory at the top of the tree.

PTQ_SOURCE="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$PTQ_SOURCE" || exit

say() { printf '%s\n' "$*" >&2; }

die() {
  say "error: $*"
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# Prints the comment that a script opens with, as its help.
help_of() { sed -n '2,/^$/s/^# \{0,1\}//p' "$1"; }

# Shows a command, then runs it.
run() {
  printf '\n$' >&2
  printf ' %q' "$@" >&2
  printf '\n' >&2
  "$@"
}

# Bytes that a build may use: the system's available memory, or what a container's limit allows if that is less.
memory_bytes() {
  local available limit=max
  available=$(awk '/^MemAvailable:/ {printf "%.0f", $2 * 1024}' /proc/meminfo)
  if [[ -r /sys/fs/cgroup/memory.max ]]; then limit=$(</sys/fs/cgroup/memory.max); fi
  if [[ $limit != max ]] && ((limit < available)); then available=$limit; fi
  printf '%s\n' "$available"
}

# How many compilers to run at once: one a core, but at most one for each 1.5 GB of memory.
build_jobs() {
  local cores by_memory
  cores=$(nproc)
  by_memory=$(($(memory_bytes) / 1500000000))
  if ((by_memory < 1)); then by_memory=1; fi
  printf '%s\n' "$((cores < by_memory ? cores : by_memory))"
}
