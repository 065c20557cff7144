// Runs a program as a user would: arguments in, output, exit code and peak memory out.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace ptq::testing {

struct ProcessOptions {
  std::string directory;        // where it runs; empty: here
  uint64_t max_file_bytes = 0;  // RLIMIT_FSIZE; 0: no limit
  // Sent one after another once `signal_after` has appeared on stderr (at once if it is empty) and
  // `signal_delay_ms` have gone by.
  std::vector<int> signals = {};
  std::string signal_after = "";
  int signal_delay_ms = 0;
  // Cut off to one byte once `truncate_after` has appeared on stderr.
  std::string truncate_file = "";
  std::string truncate_after = "";
};

struct ProcessResult {
  int exit_code = -1;  // 128 + the signal's number if a signal ended it
  std::string out;
  std::string err;
  int64_t peak_rss_bytes = 0;
};

// Runs command[0] with stdin closed and one OpenMP thread. A program that takes longer than two minutes is
// killed, so that a test fails instead of hanging.
ProcessResult run_process(const std::vector<std::string>& command, const ProcessOptions& options = {});

}  // namespace ptq::testing
