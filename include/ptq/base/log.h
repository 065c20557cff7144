// What the program says on stderr, by spdlog: `spdlog::info("...")` anywhere.
#pragma once

#include <memory>
#include <string>

#include "ptq/base/progress.h"

namespace ptq {

struct LogOptions {
  bool quiet = false;  // warnings and errors only
  int verbose = 0;     // 1: debug, 2: trace
  std::string file{};  // also to this file, with times, at debug level or finer; empty for none
  int rank = 0;        // of several processes: others than the first say nothing without `verbose`
};

// Makes spdlog's default logger write to stderr, above the progress bar, in colour where StatusLine::colors()
// says so. Returns the status line that the run's Progress draws in. Throws Error if the log file cannot be
// opened.
std::shared_ptr<StatusLine> setup_logging(const LogOptions& options);

// The same on a status line of the caller's.
void setup_logging(const LogOptions& options, std::shared_ptr<StatusLine> line);

}  // namespace ptq
