#include "ptq/comm/processes.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <functional>

#include "ptq/base/clock.h"
#include "support/free_port.h"

namespace ptq {
namespace {

// What came of a process: "done", or the message of an Error.
struct Outcome {
  std::string text;
  int exit_code = 0;
};

using Body = std::function<void(Processes&)>;

// Runs `body` in a process for each of `launches`, on loopback.
std::vector<Outcome> run_all(std::vector<Launch> launches, const Body& body, double patience = 20) {
  const uint16_t port = testing::free_port();
  std::vector<int> pipes;
  std::vector<pid_t> children;
  for (Launch& launch : launches) {
    launch.address = "127.0.0.1";
    launch.port = port;
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe(ends.data()), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      ::signal(SIGPIPE, SIG_IGN);
      std::string text = "done";
      int code = 0;
      try {
        Processes processes(launch, patience);
        try {
          body(processes);
          processes.leave();
        } catch (const Error& error) {
          processes.fail(error);
        }
      } catch (const Error& error) {
        text = error.what();
        code = static_cast<int>(error.exit_code());
      } catch (const std::exception& error) {
        text = std::string("unexpected: ") + error.what();
        code = 99;
      }
      [[maybe_unused]] const ssize_t written = ::write(ends[1], text.data(), text.size());
      ::_exit(code);
    }
    ::close(ends[1]);
    pipes.push_back(ends[0]);
    children.push_back(child);
  }
  std::vector<Outcome> outcomes;
  for (size_t i = 0; i < children.size(); ++i) {
    Outcome outcome;
    if (i > 0) ::kill(children[i], SIGCONT);  // one that has stopped itself: the first has ended
    std::array<char, 4096> buffer{};
    for (ssize_t n = 0; (n = ::read(pipes[i], buffer.data(), buffer.size())) > 0;)
      outcome.text.append(buffer.data(), static_cast<size_t>(n));
    ::close(pipes[i]);
    int status = 0;
    ::waitpid(children[i], &status, 0);
    outcome.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    outcomes.push_back(outcome);
  }
  return outcomes;
}

std::vector<Outcome> run_processes(int size, const Body& body, double patience = 20) {
  std::vector<Launch> launches;
  for (int rank = 0; rank < size; ++rank) {
    Launch launch;
    launch.rank = rank;
    launch.size = size;
    launches.push_back(launch);
  }
  return run_all(launches, body, patience);
}

void expect_done(const std::vector<Outcome>& outcomes) {
  for (size_t rank = 0; rank < outcomes.size(); ++rank) {
    EXPECT_EQ(outcomes[rank].text, "done") << rank;
    EXPECT_EQ(outcomes[rank].exit_code, 0) << rank;
  }
}

void expect(bool is_true, const std::string& what) {
  if (!is_true) throw Error("", what);
}

bool has(const Outcome& outcome, const std::string& words) {
  return outcome.text.find(words) != std::string::npos;
}

TEST(Processes, ParcelsArriveAsTheyWereSent) {
  for (const int size : {2, 3}) {
    expect_done(run_processes(size, [&](Processes& all) {
      const at::Tensor strided = at::arange(24).view({4, 6}).t().slice(0, 1, 5);
      const auto check = [&](const Parcel& parcel) {
        ParcelReader reader(parcel);
        expect(reader.tensor().equal(strided), "strided integers");
        expect(!reader.tensor().defined(), "an undefined tensor");
        expect(reader.tensor().sizes() == at::IntArrayRef({0, 7}), "an empty tensor");
        expect(reader.tensor().item<double>() == 0.1, "a scalar");
        expect(reader.tensor().scalar_type() == at::kBFloat16, "a dtype");
        expect(reader.floats() == std::vector<float>({1.5F, -2}), "numbers");
        expect(parcel.text == std::string("a\0b", 3), "a text");
      };
      Parcel sent;
      sent.add(strided);
      sent.add(at::Tensor());
      sent.add(at::empty({0, 7}));
      sent.add(at::scalar_tensor(0.1, at::kDouble));
      sent.add(at::ones({3}, at::kBFloat16));
      sent.add(std::vector<float>{1.5F, -2});
      sent.text = std::string("a\0b", 3);
      for (int from = 0; from < size; ++from) {
        Parcel parcel = all.rank() == from ? sent : Parcel{};
        all.broadcast(parcel, from);
        check(parcel);
      }
      if (all.rank() + 1 < size) all.send(sent, all.rank() + 1);
      if (all.rank() > 0) check(all.receive(all.rank() - 1));
      Parcel nothing;
      all.broadcast(nothing);
      expect(nothing.tensors.empty() && nothing.text.empty(), "an empty parcel");
    }));
  }
}

TEST(Processes, AnyIsTrueIfItIsInOne) {
  expect_done(run_processes(3, [](Processes& all) {
    expect(!all.any(false), "none");
    for (int rank = 0; rank < 3; ++rank) expect(all.any(all.rank() == rank), "one");
  }));
}

TEST(Processes, EveryTaskIsSolvedOnceAndTakenByAllInOrder) {
  for (const int size : {1, 2, 3}) {
    const Body body = [&](Processes& all) {
      std::vector<size_t> solved, taken;
      const auto solve = [&](size_t i) {
        solved.push_back(i);
        Parcel parcel;
        parcel.add(std::vector<double>{static_cast<double>(i) * 1.5});
        return parcel;
      };
      all.share({1, 5, 2, 2, 1}, solve, [&](size_t i, const Parcel& parcel) {
        taken.push_back(i);
        expect(ParcelReader(parcel).doubles().at(0) == static_cast<double>(i) * 1.5, "a result");
      });
      expect(taken == std::vector<size_t>({0, 1, 2, 3, 4}), "the order");
      const std::vector<int> owners = owners_of({1, 5, 2, 2, 1}, size);
      std::vector<size_t> own;
      for (size_t i = 0; i < owners.size(); ++i) {
        if (owners[i] == all.rank()) own.push_back(i);
      }
      expect(solved == own, "its own tasks");
    };
    if (size == 1) {
      body(one_process());
    } else {
      expect_done(run_processes(size, body));
    }
  }
}

TEST(Processes, LongestTasksAreGivenAwayFirst) {
  EXPECT_EQ(owners_of({1, 5, 2, 2, 1}, 2), (std::vector<int>{1, 0, 1, 1, 0}));
  EXPECT_EQ(owners_of({3, 3, 3}, 8), (std::vector<int>{0, 1, 2}));
  EXPECT_EQ(owners_of({}, 2), std::vector<int>{});
  EXPECT_EQ(owners_of({1, 2}, 1), (std::vector<int>{0, 0}));
}

TEST(Processes, FailureOfOneIsWhatAllSay) {
  const std::vector<Outcome> outcomes = run_processes(3, [](Processes& all) {
    if (all.rank() == 1) throw Error("layers.3", "weights are NaN", "another checkpoint");
    all.any(false);
  });
  for (const Outcome& outcome : outcomes) {
    EXPECT_TRUE(has(outcome, "rank 1 of 3")) << outcome.text;
    EXPECT_TRUE(has(outcome, "layers.3: weights are NaN\n  try: another checkpoint")) << outcome.text;
    EXPECT_EQ(outcome.exit_code, 1);
  }
}

TEST(Processes, ExitCodeOfTheFailureIsThatOfAll) {
  const std::vector<Outcome> outcomes = run_processes(2, [](Processes& all) {
    if (all.rank() == 0) throw Error("", "interrupted", "", ExitCode::kInterrupted);
    all.receive(0);
  });
  for (const Outcome& outcome : outcomes) {
    EXPECT_TRUE(has(outcome, "rank 0 of 2")) << outcome.text;
    EXPECT_EQ(outcome.exit_code, 5);
  }
}

TEST(Processes, ProcessThatDiesIsNamedWithinSeconds) {
  for (const int victim : {0, 1, 2}) {
    const Stopwatch clock;
    const std::vector<Outcome> outcomes = run_processes(3, [&](Processes& all) {
      all.any(false);
      if (all.rank() == victim) ::raise(SIGKILL);
      all.any(false);
    });
    EXPECT_LT(clock.elapsed_seconds(), 15) << victim;
    for (int rank = 0; rank < 3; ++rank) {
      const Outcome& outcome = outcomes[static_cast<size_t>(rank)];
      if (rank == victim) continue;
      EXPECT_TRUE(has(outcome, "rank " + std::to_string(victim) + " of 3")) << outcome.text;
      EXPECT_TRUE(has(outcome, "no sign of life")) << outcome.text;
      EXPECT_EQ(outcome.exit_code, 1) << outcome.text;
    }
  }
}

TEST(Processes, ProcessThatHangsIsNamedWhenPatienceIsOver) {
  const std::vector<Outcome> outcomes = run_processes(
      2,
      [&](Processes& all) {
        all.any(false);
        if (all.rank() == 1) ::raise(SIGSTOP);
        all.any(false);
      },
      3);
  EXPECT_TRUE(has(outcomes[0], "rank 1 of 2")) << outcomes[0].text;
  EXPECT_TRUE(has(outcomes[0], "no sign of life")) << outcomes[0].text;
}

TEST(Processes, MissingProcessIsNamed) {
  std::vector<Launch> launches(2);
  launches[1].rank = 2;
  for (Launch& launch : launches) launch.size = 3;
  const std::vector<Outcome> outcomes = run_all(launches, [](Processes&) {}, 2);
  EXPECT_TRUE(has(outcomes[0], "2 of 3 processes came within 2 s; missing: rank 1")) << outcomes[0].text;
  for (const Outcome& outcome : outcomes) EXPECT_EQ(outcome.exit_code, 2) << outcome.text;
}

TEST(Processes, TwoOfOneRankAreRefused) {
  std::vector<Launch> launches(3);
  for (Launch& launch : launches) launch.size = 2;
  launches[1].rank = launches[2].rank = 1;
  const std::vector<Outcome> outcomes = run_all(launches, [](Processes& all) { all.any(false); }, 5);
  const bool said =
      has(outcomes[1], "two processes have the rank 1") || has(outcomes[2], "two processes have the rank 1");
  EXPECT_TRUE(said) << outcomes[1].text << outcomes[2].text;
}

TEST(Processes, NumbersOfProcessesThatDifferAreRefused) {
  std::vector<Launch> launches(2);
  launches[0].size = 2;
  launches[1].size = 4;
  launches[1].rank = 1;
  const std::vector<Outcome> outcomes = run_all(launches, [](Processes& all) { all.any(false); }, 5);
  for (const Outcome& outcome : outcomes) {
    EXPECT_TRUE(has(outcome, "WORLD_SIZE")) << outcome.text;
    EXPECT_EQ(outcome.exit_code, 2);
  }
}

}  // namespace
}  // namespace ptq
