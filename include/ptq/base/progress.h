// Progress on stderr: a bar with the time left on a terminal, a plain line now and then elsewhere.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "ptq/base/clock.h"

namespace ptq {

// Where progress and log messages meet: messages scroll by, at most one status line stays at the bottom.
// Usable from several threads. On anything but a terminal there is no status line.
class StatusLine {
 public:
  // Standard error. A terminal with TERM=dumb counts as none.
  StatusLine();
  // For tests. The descriptor is not closed.
  StatusLine(int fd, bool is_terminal, int columns);

  bool is_terminal() const { return is_terminal_; }
  // Whether colours are wanted: a terminal, and NO_COLOR is unset or empty.
  bool colors() const { return colors_; }
  // Columns of the terminal at the last show(); 80 if it does not say.
  int columns() const;

  // Replaces the status line. Text longer than the terminal is wide is cut. Nothing happens elsewhere.
  void show(std::string_view text);
  void clear();
  // Writes `text`, which ends in a newline, above the status line.
  void print(std::string_view text);

 private:
  void write(std::string_view text) const;

  mutable std::mutex mutex_;
  int fd_;
  bool is_terminal_;
  bool colors_;
  int fixed_columns_ = 0;
  std::string shown_;
};

enum class ProgressStyle { kNormal, kQuiet };

// One stage after another, each of a known number of steps. Used by one thread.
class Progress {
 public:
  // A quiet progress prints nothing. `line_interval` is the least time between two lines where there is no
  // terminal.
  explicit Progress(std::shared_ptr<StatusLine> line, ProgressStyle style = ProgressStyle::kNormal,
                    std::chrono::milliseconds line_interval = std::chrono::seconds(5));
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Begins a stage; the one before it is over. REQUIRES: total >= 0; 0 means that the number is not known.
  void start(const std::string& stage, int64_t total);
  // Counts finished steps. `detail` says what is being worked on, e.g. a layer's name.
  void advance(int64_t steps = 1, std::string_view detail = "");
  // Ends the last stage and takes the bar away.
  void finished();

 private:
  void draw();

  std::shared_ptr<StatusLine> line_;
  ProgressStyle style_;
  std::chrono::milliseconds line_interval_;
  std::string stage_;
  std::string detail_;
  int64_t total_ = 0;
  int64_t done_ = 0;
  Stopwatch stage_clock_;
  Stopwatch draw_clock_;
};

// "0:07", "3:20", "1:02:09".
std::string format_duration(double seconds);

}  // namespace ptq
