#include "ptq/base/interrupt.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <string>

#include "expect_error.h"
#include "ptq/base/output.h"
#include "temp_directory.h"

namespace ptq {
namespace {

using Names = std::vector<std::string>;

// Each statement runs in a child process, because a flag that is set stays set.
void signal_once_then_write(const std::string& path) {
  install_interrupt_handlers();
  try {
    OutputDirectory out(path, false);
    OutputFile file(out.path("a"));
    file.write("x");
    std::raise(SIGINT);
    file.write("x");
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    std::_Exit(static_cast<int>(error.exit_code()));
  }
  std::_Exit(0);
}

void signal_twice_with_many_files(const std::string& path) {
  install_interrupt_handlers();
  const OutputDirectory out(path, false);
  // More names than one getdents64 call returns.
  for (int i = 0; i < 300; ++i) write_file(out.path("a-rather-long-name-" + std::to_string(i)), "x");
  std::raise(SIGTERM);
  std::raise(SIGINT);
  std::_Exit(0);
}

void signal_twice_with_a_subdirectory(const std::string& path) {
  install_interrupt_handlers();
  const OutputDirectory out(path, false);
  std::filesystem::create_directories(out.path("sub") + "/deeper");
  write_file(out.path("sub") + "/a", "x");
  write_file(out.path("sub") + "/deeper/a", "x");
  write_file(out.path("b"), "x");
  std::raise(SIGTERM);
  std::raise(SIGINT);
  std::_Exit(0);
}

void signal_while_deferred(int signals) {
  install_interrupt_handlers();
  {
    const InterruptDeferral deferral("first the rest\n");
    for (int i = 0; i < signals; ++i) std::raise(SIGINT);
    throw_if_interrupted();
  }
  try {
    throw_if_interrupted();
  } catch (const Error&) {
    std::_Exit(42);
  }
  std::_Exit(43);
}

void broken_pipe(const std::string& path) {
  install_interrupt_handlers();
  const OutputDirectory out(path, false);
  write_file(out.path("a"), "x");
  std::raise(SIGPIPE);
  std::_Exit(0);
}

void signal_twice_behind_a_shield() {
  install_interrupt_handlers();
  {
    const SignalShield shield;
    std::raise(SIGINT);
    std::raise(SIGINT);
  }
  std::_Exit(interrupted() ? 42 : 43);
}

void hangup_when_ignored() {
  std::signal(SIGHUP, SIG_IGN);
  install_interrupt_handlers();
  std::raise(SIGHUP);
  std::_Exit(interrupted() ? 43 : 42);
}

TEST(InterruptDeathTest, FirstSignalThrowsAtTheNextWriteAndNothingIsLeft) {
  const TempDirectory temp;
  EXPECT_EXIT(signal_once_then_write(temp / "out"), ::testing::ExitedWithCode(5), "interrupted");
  EXPECT_EQ(temp.list(), Names{});
}

TEST(InterruptDeathTest, SecondSignalEndsAtOnceAndNothingIsLeft) {
  const TempDirectory temp;
  EXPECT_EXIT(signal_twice_with_many_files(temp / "out"), ::testing::ExitedWithCode(5), "");
  EXPECT_EQ(temp.list(), Names{});
}

TEST(InterruptDeathTest, SecondSignalRemovesTwoLevelsOfSubdirectoriesToo) {
  const TempDirectory temp;
  EXPECT_EXIT(signal_twice_with_a_subdirectory(temp / "out"), ::testing::ExitedWithCode(5), "");
  EXPECT_EQ(temp.list(), Names{});
}

TEST(InterruptDeathTest, DeferredSignalSaysSoAndThrowsAfterwards) {
  EXPECT_EXIT(signal_while_deferred(1), ::testing::ExitedWithCode(42), "^first the rest\n$");
}

TEST(InterruptDeathTest, SecondSignalEndsADeferralAtOnce) {
  EXPECT_EXIT(signal_while_deferred(2), ::testing::ExitedWithCode(5), "^first the rest\n$");
}

TEST(InterruptDeathTest, BrokenPipeKillsAsUsualAndNothingIsLeft) {
  const TempDirectory temp;
  EXPECT_EXIT(broken_pipe(temp / "out"), ::testing::KilledBySignal(SIGPIPE), "");
  EXPECT_EQ(temp.list(), Names{});
}

TEST(InterruptDeathTest, SecondSignalBehindAShieldOnlyCounts) {
  EXPECT_EXIT(signal_twice_behind_a_shield(), ::testing::ExitedWithCode(42), "");
}

TEST(InterruptDeathTest, IgnoredHangupStaysIgnored) {
  EXPECT_EXIT(hangup_when_ignored(), ::testing::ExitedWithCode(42), "");
}

TEST(Interrupt, WithoutASignalNothingIsThrown) {
  EXPECT_FALSE(interrupted());
  EXPECT_NO_THROW(throw_if_interrupted());
}

TEST(RemoveOnSignal, SlotsAreUsedAgain) {
  for (int i = 0; i < 3 * RemoveOnSignal::kMaxDirectories; ++i) EXPECT_NO_THROW(RemoveOnSignal("/nowhere"));
}

TEST(RemoveOnSignal, MoreThanTheTableHoldsIsABug) {
  std::vector<std::unique_ptr<RemoveOnSignal>> held;
  for (int i = 0; i < RemoveOnSignal::kMaxDirectories; ++i) {
    held.push_back(std::make_unique<RemoveOnSignal>("/nowhere"));
  }
  EXPECT_ERROR(RemoveOnSignal("/nowhere"), ExitCode::kBug, "too many");
}

}  // namespace
}  // namespace ptq
