#include "ptq/base/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace ptq {
namespace {

constexpr double kRedrawSeconds = 0.1;
// Below this an estimate of the time left is noise.
constexpr double kEstimateAfterSeconds = 0.5;

bool environment_set(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0';
}

bool stderr_is_terminal() {
  const char* term = std::getenv("TERM");
  return ::isatty(STDERR_FILENO) == 1 && term != nullptr && std::string_view(term) != "dumb";
}

std::string bar(double fraction, int width) {
  const int filled = static_cast<int>(std::lround(fraction * width));
  std::string text;
  for (int i = 0; i < width; ++i) text += i < filled ? '#' : '.';
  return text;
}

}  // namespace

StatusLine::StatusLine() : StatusLine(STDERR_FILENO, stderr_is_terminal(), 0) {}

StatusLine::StatusLine(int fd, bool is_terminal, int columns)
    : fd_(fd),
      is_terminal_(is_terminal),
      colors_(is_terminal && !environment_set("NO_COLOR")),
      fixed_columns_(columns) {}

int StatusLine::columns() const {
  if (fixed_columns_ > 0) return fixed_columns_;
  winsize size{};
  return ::ioctl(fd_, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

void StatusLine::show(std::string_view text) {
  if (!is_terminal_) return;
  // The last column stays free: a character there makes some terminals wrap.
  const std::string_view cut = text.substr(0, static_cast<size_t>(std::max(1, columns() - 1)));
  const std::lock_guard lock(mutex_);
  if (cut == shown_) return;
  shown_ = cut;
  write("\r" + shown_ + "\x1b[K");
}

void StatusLine::clear() {
  const std::lock_guard lock(mutex_);
  if (shown_.empty()) return;
  shown_.clear();
  write("\r\x1b[K");
}

void StatusLine::print(std::string_view text) {
  const std::lock_guard lock(mutex_);
  if (shown_.empty()) {
    write(text);
  } else {
    write("\r\x1b[K" + std::string(text) + shown_);
  }
}

// One call for one update, so that the lines of two processes on a terminal do not mix. A stderr that cannot
// be written to is nothing to stop a run for.
void StatusLine::write(std::string_view text) const {
  while (!text.empty()) {
    const ssize_t written = ::write(fd_, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    text.remove_prefix(static_cast<size_t>(written));
  }
}

Progress::Progress(std::shared_ptr<StatusLine> line, ProgressStyle style,
                   std::chrono::milliseconds line_interval)
    : line_(std::move(line)), style_(style), line_interval_(line_interval) {}

Progress::~Progress() {
  finished();
}

void Progress::start(const std::string& stage, int64_t total) {
  assert(total >= 0);
  stage_ = stage;
  detail_.clear();
  total_ = total;
  done_ = 0;
  stage_clock_.restart();
  // On a terminal a stage is visible from its first moment; elsewhere the pace of the lines goes on.
  if (line_->is_terminal() && style_ == ProgressStyle::kNormal) draw();
}

void Progress::advance(int64_t steps, std::string_view detail) {
  done_ += steps;
  detail_ = detail;
  if (style_ == ProgressStyle::kQuiet) return;
  const double interval =
      line_->is_terminal() ? kRedrawSeconds : std::chrono::duration<double>(line_interval_).count();
  if (draw_clock_.elapsed_seconds() >= interval) draw();
}

void Progress::finished() {
  line_->clear();
}

void Progress::draw() {
  draw_clock_.restart();
  const double elapsed = stage_clock_.elapsed_seconds();
  std::string text = stage_;
  if (total_ > 0) {
    const double fraction = std::min(1.0, static_cast<double>(done_) / static_cast<double>(total_));
    if (line_->is_terminal()) text += " [" + bar(fraction, 24) + "]";
    text += " " + std::to_string(done_) + "/" + std::to_string(total_);
    if (fraction > 0 && fraction < 1 && elapsed > kEstimateAfterSeconds) {
      text += ", " + format_duration(elapsed / fraction - elapsed) + " left";
    }
  } else {
    text += " " + std::to_string(done_) + ", " + format_duration(elapsed);
  }
  if (!detail_.empty()) text += "  " + detail_;
  if (line_->is_terminal()) {
    line_->show(text);
  } else {
    line_->print(text + "\n");
  }
}

std::string format_duration(double seconds) {
  const auto whole = static_cast<int64_t>(std::llround(std::clamp(seconds, 0.0, 1e9)));
  const int64_t hours = whole / 3600;
  const int64_t minutes = whole / 60 % 60;
  char text[32];
  if (hours > 0) {
    std::snprintf(text, sizeof text, "%lld:%02lld:%02lld", static_cast<long long>(hours),
                  static_cast<long long>(minutes), static_cast<long long>(whole % 60));
  } else {
    std::snprintf(text, sizeof text, "%lld:%02lld", static_cast<long long>(minutes),
                  static_cast<long long>(whole % 60));
  }
  return text;
}

}  // namespace ptq
