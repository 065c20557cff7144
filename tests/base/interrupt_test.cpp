#include "ptq/base/interrupt.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <filesystem>
#include <string>
#include <thread>

#include "expect_error.h"
#include "ptq/base/file.h"
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

// Touches the second page of a file of two that is cut off to one byte.
void touch_what_is_gone(const std::string& path, const std::string& output, bool in_a_thread) {
  install_interrupt_handlers();
  const OutputDirectory out(output, false);
  write_file(out.path("a"), "x");
  const auto file = MappedFile::open(path);
  std::filesystem::resize_file(path, 1);
  const auto touch = [&file] {
    const volatile std::byte last = file->bytes().back();
    static_cast<void>(last);
  };
  if (in_a_thread) {
    std::thread(touch).join();
  } else {
    touch();
  }
  std::_Exit(0);
}

void touch_a_hole_of_nobodys() {
  install_interrupt_handlers();
  std::FILE* const file = std::tmpfile();
  const void* const page = ::mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE, ::fileno(file), 0);
  const volatile char first = *static_cast<const char*>(page);
  static_cast<void>(first);
  std::_Exit(0);
}

TEST(InterruptDeathTest, MappedFileThatShrinksIsNamedAndNothingIsLeft) {
  for (const bool in_a_thread : {false, true}) {
    const TempDirectory temp;
    const std::string path = temp.write("weights", std::string(20'000, 'x'));
    EXPECT_EXIT(touch_what_is_gone(path, temp / "out", in_a_thread), ::testing::ExitedWithCode(1),
                "weights: the file shrank from 20000 to 1 bytes");
    EXPECT_EQ(temp.list(), Names{"weights"});
  }
}

TEST(InterruptDeathTest, BusErrorElsewhereKillsAsUsualAndIsCalledABug) {
  EXPECT_EXIT(touch_a_hole_of_nobodys(), ::testing::KilledBySignal(SIGBUS), "a bug of this program");
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
