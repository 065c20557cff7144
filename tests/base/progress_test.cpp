#include "ptq/base/progress.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <thread>

#include "expect_error.h"
#include "ptq/base/log.h"
#include "temp_directory.h"

namespace ptq {
namespace {

using std::chrono::milliseconds;

// What arrives at a status line's descriptor.
class Screen {
 public:
  explicit Screen(bool is_terminal, int columns = 60)
      : fd_(::open((temp_ / "screen").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)),
        line_(std::make_shared<StatusLine>(fd_, is_terminal, columns)) {}
  ~Screen() { ::close(fd_); }
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  const std::shared_ptr<StatusLine>& line() const { return line_; }
  std::string text() const { return temp_.read("screen"); }

 private:
  TempDirectory temp_;
  int fd_;
  std::shared_ptr<StatusLine> line_;
};

TEST(StatusLine, MessageGoesAboveTheShownLine) {
  const Screen screen(true);
  screen.line()->show("half");
  screen.line()->print("hello\n");
  screen.line()->clear();
  EXPECT_EQ(screen.text(), "\rhalf\x1b[K\r\x1b[Khello\nhalf\r\x1b[K");
}

TEST(StatusLine, TextWiderThanTheTerminalIsCut) {
  const Screen screen(true, 5);
  screen.line()->show("123456789");
  EXPECT_EQ(screen.text(), "\r1234\x1b[K");
}

TEST(StatusLine, NothingIsShownWithoutATerminal) {
  const Screen screen(false);
  screen.line()->show("half");
  screen.line()->print("hello\n");
  screen.line()->clear();
  EXPECT_EQ(screen.text(), "hello\n");
}

TEST(Progress, TerminalShowsABarAndTakesItAway) {
  const Screen screen(true);
  Progress progress(screen.line());
  progress.start("calibrate", 4);
  std::this_thread::sleep_for(milliseconds(120));
  progress.advance(2, "layer 1");
  progress.finished();
  EXPECT_NE(screen.text().find("calibrate [........................] 0/4"), std::string::npos)
      << screen.text();
  EXPECT_NE(screen.text().find("calibrate [############............] 2/4  layer 1"), std::string::npos)
      << screen.text();
  EXPECT_TRUE(screen.text().ends_with("\r\x1b[K"));
}

TEST(Progress, TerminalIsRedrawnAtMostTenTimesASecond) {
  const Screen screen(true);
  Progress progress(screen.line());
  progress.start("scan", 100'000);
  for (int i = 0; i < 100'000; ++i) progress.advance();
  const std::string text = screen.text();
  EXPECT_LT(std::count(text.begin(), text.end(), '\r'), 20);
}

TEST(Progress, TimeLeftIsShownWhenItCanBeEstimated) {
  const Screen screen(true, 100);
  Progress progress(screen.line());
  progress.start("scan", 100);
  std::this_thread::sleep_for(milliseconds(600));
  progress.advance(50);
  EXPECT_NE(screen.text().find("50/100, 0:01 left"), std::string::npos) << screen.text();
}

TEST(Progress, LinesWithoutATerminalComeAtTheInterval) {
  const Screen screen(false);
  Progress progress(screen.line(), ProgressStyle::kNormal, milliseconds(50));
  progress.start("scan", 3);
  progress.advance();
  EXPECT_EQ(screen.text(), "");
  std::this_thread::sleep_for(milliseconds(60));
  progress.advance(1, "layer 1");
  progress.advance();
  progress.finished();
  EXPECT_EQ(screen.text(), "scan 2/3  layer 1\n");
}

TEST(Progress, QuietPrintsNothing) {
  const Screen screen(true);
  Progress progress(screen.line(), ProgressStyle::kQuiet);
  progress.start("scan", 3);
  std::this_thread::sleep_for(milliseconds(120));
  progress.advance();
  progress.finished();
  EXPECT_EQ(screen.text(), "");
}

TEST(FormatDuration, MinutesAndHours) {
  EXPECT_EQ(format_duration(7.2), "0:07");
  EXPECT_EQ(format_duration(200), "3:20");
  EXPECT_EQ(format_duration(3729), "1:02:09");
  EXPECT_EQ(format_duration(-1), "0:00");
}

TEST(Log, LevelFollowsTheOptions) {
  const Screen screen(false);
  setup_logging({.quiet = true}, screen.line());
  spdlog::info("one");
  spdlog::warn("two");
  setup_logging({.verbose = 1}, screen.line());
  spdlog::debug("three");
  spdlog::trace("four");
  EXPECT_EQ(screen.text(), "warning: two\ndebug: three\n");
}

TEST(Log, MessageDoesNotBreakTheBar) {
  const Screen screen(true);
  setup_logging({}, screen.line());
  screen.line()->show("bar");
  spdlog::info("message");
  EXPECT_EQ(screen.text(), "\rbar\x1b[K\r\x1b[Kinfo: message\nbar");
}

TEST(Log, ColorOnATerminalOnlyAndNotWithNoColor) {
  ::unsetenv("NO_COLOR");
  const Screen colored(true);
  setup_logging({}, colored.line());
  spdlog::warn("w");
  EXPECT_EQ(colored.text(), "\x1b[1;33mwarning:\x1b[0m w\n");
  ::setenv("NO_COLOR", "1", 1);
  const Screen plain(true);
  setup_logging({}, plain.line());
  spdlog::warn("w");
  ::unsetenv("NO_COLOR");
  EXPECT_EQ(plain.text(), "warning: w\n");
}

TEST(Log, FileGetsDebugMessagesEvenWhenQuiet) {
  const TempDirectory temp;
  const Screen screen(false);
  setup_logging({.quiet = true, .file = temp / "log"}, screen.line());
  spdlog::debug("detail");
  spdlog::default_logger()->flush();
  EXPECT_NE(temp.read("log").find("debug: detail"), std::string::npos);
  EXPECT_EQ(screen.text(), "");
}

TEST(Log, FileThatCannotBeOpenedIsAnError) {
  const Screen screen(false);
  EXPECT_ERROR(setup_logging({.file = "/proc/nowhere/log"}, screen.line()), ExitCode::kFailed, "log file");
}

}  // namespace
}  // namespace ptq
