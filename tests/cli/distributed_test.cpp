// Several processes share a run: the bytes of one, and one message if one of them is lost.
#include <future>

#include "cli/resume.h"
#include "support/free_port.h"

namespace ptq {
namespace {

using Results = std::vector<ProcessResult>;

class Distributed : public ResumeCli {
 protected:
  // Runs `size` processes of one run. `options` are those of process `rank_of_options`.
  Results run_together(int size, const Words& arguments, int rank_of_options = -1,
                       const ProcessOptions& options = {}) const {
    const std::string port = std::to_string(testing::free_port());
    std::vector<std::future<ProcessResult>> running;
    for (int rank = 0; rank < size; ++rank) {
      const Words environment = {"/usr/bin/env", "RANK=" + std::to_string(rank),
                                 "WORLD_SIZE=" + std::to_string(size), "MASTER_ADDR=127.0.0.1",
                                 "MASTER_PORT=" + port};
      ProcessOptions own = rank == rank_of_options ? options : ProcessOptions{};
      own.directory = directory_.path();
      running.push_back(std::async(std::launch::async, [=, words = environment + Words{PTQ_PROGRAM} +
                                                                   arguments + Words{"--distributed"}] {
        return testing::run_process(words, own);
      }));
    }
    Results results;
    for (auto& process : running) results.push_back(process.get());
    return results;
  }
  void run_together_well(int size, const Words& arguments) const {
    const Results results = run_together(size, arguments);
    for (const ProcessResult& result : results) EXPECT_EQ(result.exit_code, 0) << result.err;
    for (size_t rank = 1; rank < results.size(); ++rank) {
      EXPECT_EQ(results[rank].out, "");
      EXPECT_EQ(results[rank].err, "");
    }
  }
  // Of all but `lost`: one error, with these words, and the exit code.
  static void expect_all_say(const Results& results, const Words& words, int exit_code, int lost = -1) {
    for (size_t rank = 0; rank < results.size(); ++rank) {
      if (static_cast<int>(rank) == lost) continue;
      const std::string& text = results[rank].err;
      EXPECT_EQ(results[rank].exit_code, exit_code) << rank << ": " << text;
      const size_t message = text.find("error: ");
      ASSERT_NE(message, std::string::npos) << rank << ": " << text;
      EXPECT_EQ(text.find("error: ", message + 1), std::string::npos) << rank << ": " << text;
      for (const std::string& word : words)
        EXPECT_NE(text.find(word, message), std::string::npos) << rank << ": " << word << " in " << text;
    }
  }
  static ProcessOptions signalled(int signal, const std::string& after) {
    ProcessOptions options;
    options.signals = {signal};
    options.signal_after = after;
    return options;
  }
};

struct MethodCase {
  const char* name;
  bool llama;
  Words options;
};

class DistributedMethod : public Distributed, public ::testing::WithParamInterface<MethodCase> {};

TEST_P(DistributedMethod, WritesTheBytesOfOneProcess) {
  const MethodCase& entry = GetParam();
  const Words arguments = Words{entry.llama ? llama_ : model_} + entry.options;
  run_well(arguments + Words{"-o", "one", "--quiet"});
  for (const int size : {2, 3}) {
    const std::string out = "of" + std::to_string(size);
    run_together_well(size, arguments + Words{"-o", out});
    expect_same_output("one", out);
  }
}

const Words kText = {"--calib", PTQ_TEST_DATA "/shakespeare-calib.txt"};
// Batches enough that lanes have more than one.
const Words kMany = Words{"--samples", "75", "--seq-len", "512"} + kText;
const Words kFew = Words{"--samples", "24", "--seq-len", "128"} + kText;

INSTANTIATE_TEST_SUITE_P(
    Distributed, DistributedMethod,
    ::testing::Values(
        MethodCase{"rtn", true, Words{"--method", "rtn"} + kFew},
        MethodCase{"rtn_without_text", true, {"--method", "rtn", "--bits", "w4a16"}},
        MethodCase{"smoothquant", true, Words{"--method", "smoothquant"} + kFew},
        MethodCase{"gptq", true, Words{"--method", "gptq"} + kMany},
        MethodCase{"gptq_w8a8", true, Words{"--method", "gptq", "--bits", "w8a8"} + kFew},
        MethodCase{"duquant", true, Words{"--method", "duquant", "--bits", "w4a4"} + kMany},
        MethodCase{"duquant_greedy", true,
                   Words{"--method", "duquant", "--bits", "w4a4", "--set", "duquant.rotation=auto"} + kFew},
        MethodCase{"qera", true, Words{"--method", "qera", "--rank", "8"} + kMany},
        MethodCase{"qera_shared_ranks", true, Words{"--method", "qera", "--target-bpw", "6"} + kFew},
        MethodCase{"qera_auto", true,
                   Words{"--method", "qera", "--rank", "8", "--set", "qera.variant=auto"} + kFew},
        MethodCase{"feedback", true,
                   Words{"--method", "duquant", "--bits", "w4a4", "--set", "feedback=on"} + kMany},
        MethodCase{"own_text", true, {"--method", "gptq", "--samples", "4", "--seq-len", "64"}},
        MethodCase{"one_window", true,
                   Words{"--method", "gptq", "--samples", "1", "--seq-len", "64"} + kText},
        MethodCase{"quamba", false, Words{"--method", "quamba"} + kMany},
        MethodCase{"mamba_qera", false, Words{"--method", "qera", "--rank", "4"} + kFew}),
    [](const auto& entry) { return std::string(entry.param.name); });

TEST_F(Distributed, KilledProcessIsNamedAndAnyNumberGoesOn) {
  run_well(llama_run_ + Words{"-o", "whole", "--quiet"});
  const Words parts = llama_run_ + Words{"-o", "parts", "--resume", "-v"};
  const Results killed = run_together(3, parts, 1, signalled(SIGKILL, finished(2)));
  expect_all_say(killed, {"rank 1 of 3", "no sign of life"}, 1, 1);
  EXPECT_NE(killed[0].err.find("are finished and kept in"), std::string::npos) << killed[0].err;
  EXPECT_EQ(directory_.list(), (Words{".parts.partial", "whole"}));
  // The first process holds the run's store and its work directory.
  const Results first_killed = run_together(2, parts, 0, signalled(SIGKILL, kept(3)));
  if (first_killed[0].exit_code != 0) expect_all_say(first_killed, {"rank 0 of 2", "no sign of life"}, 1, 0);
  EXPECT_NE(first_killed[0].err.find("going on after block"), std::string::npos) << first_killed[0].err;
  run_well(llama_run_ + Words{"-o", "parts", "--resume"});
  expect_same_output("whole", "parts");
}

TEST_F(Distributed, StateOfOneProcessIsGoneOnFromByThree) {
  const Words arguments = llama_run_ + Words{"--set", "feedback=on"};
  run_well(arguments + Words{"-o", "whole", "--quiet"});
  if (!killed_after(arguments + Words{"-o", "parts"}, 2)) GTEST_SKIP() << "the run ended before the signal";
  run_together_well(3, arguments + Words{"-o", "parts", "--resume", "--quiet"});
  expect_same_output("whole", "parts");
}

TEST_F(Distributed, SigtermOfOneEndsAllWithFive) {
  const Words arguments = llama_run_ + Words{"-o", "parts", "-v"};
  const Results results = run_together(2, arguments, 1, signalled(SIGTERM, finished(2)));
  expect_all_say(results, {"rank 1 of 2", "interrupted"}, 5);
  EXPECT_EQ(directory_.list(), Words{".parts.partial"});
  run_together_well(2, llama_run_ + Words{"-o", "parts", "--resume", "--quiet"});
  run_well(llama_run_ + Words{"-o", "whole", "--quiet"});
  expect_same_output("whole", "parts");
}

TEST_F(Distributed, ErrorOfTheFirstIsSaidByAll) {
  const Results results =
      run_together(2, {llama_, "--method", "gptq", "--calib", "missing.txt", "-o", "out"});
  expect_all_say(results, {"rank 0 of 2", "missing.txt"}, 1);
  EXPECT_TRUE(directory_.list().empty());
}

TEST_F(Distributed, OthersSpeakWithTheirRankIfAsked) {
  const Results results = run_together(2, llama_run_ + Words{"-o", "out", "-v"});
  EXPECT_NE(results[1].err.find("rank 1: debug: block 1 of 4 is finished"), std::string::npos)
      << results[1].err;
  EXPECT_EQ(results[0].err.find("rank 0: "), std::string::npos) << results[0].err;
}

TEST_F(Distributed, WithoutALauncherTheMissingVariableIsNamed) {
  expect_error({llama_, "--method", "rtn", "-o", "out", "--distributed"}, 2,
               {"--distributed: WORLD_SIZE is not set", "torchrun"});
}

TEST_F(Distributed, ProcessesThatDoNotComeAreNamed) {
  const ProcessResult result =
      testing::run_process({"/usr/bin/env", "RANK=0", "WORLD_SIZE=2", "MASTER_ADDR=127.0.0.1",
                            "MASTER_PORT=" + std::to_string(testing::free_port()), PTQ_PROGRAM, llama_,
                            "--method", "rtn", "-o", "out", "--distributed", "--distributed-timeout", "2s"},
                           {.directory = directory_.path()});
  EXPECT_EQ(result.exit_code, 2) << result.err;
  EXPECT_NE(result.err.find("1 of 2 processes came within 2 s; missing: rank 1"), std::string::npos)
      << result.err;
  EXPECT_TRUE(directory_.list().empty());
}

TEST_F(Distributed, HiddenStatesInAFileAreRefused) {
  expect_error({llama_, "--method", "rtn", "-o", "out", "--distributed", "--hidden-states", "file"}, 2,
               {"--hidden-states"});
}

}  // namespace
}  // namespace ptq
