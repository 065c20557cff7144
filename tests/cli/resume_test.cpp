// A run that is stopped goes on with --resume, and ends with the same bytes as one that was not.
#include "cli/resume.h"
#include "cli/tiny_mamba.h"

#include <chrono>
#include <map>
#include <random>

namespace ptq {
namespace {

namespace fs = std::filesystem;
using Resume = ResumeCli;

// Kills the run after the first block, the run that goes on after the second, and so on, then lets it end.
class KilledAfterEachBlock : public ResumeCli,
                             public ::testing::WithParamInterface<std::pair<const char*, const char*>> {};

TEST_P(KilledAfterEachBlock, EndsWithTheSameBytes) {
  const auto [kind, threads] = GetParam();
  const std::map<std::string, Words> runs = {
      {"mamba", mamba_run_}, {"llama", llama_run_}, {"feedback", llama_run_ + Words{"--set", "feedback=on"}}};
  const Words arguments = runs.at(kind) + Words{"--threads", threads};
  run_well(arguments + Words{"-o", "whole", "--quiet"});
  int kills = 0;
  while (kills < 4 && killed_after(arguments + Words{"-o", "parts", "--resume"}, kills + 1)) {
    ++kills;
    EXPECT_EQ(directory_.list(), (Words{".parts.partial", "whole"}));
  }
  EXPECT_GE(kills, 3);
  if (kills == 4) {
    const ProcessResult last = run_well(arguments + Words{"-o", "parts", "--resume"});
    EXPECT_NE(last.err.find("going on after block 4 of 4"), std::string::npos) << last.err;
  }
  EXPECT_EQ(directory_.list(), (Words{"parts", "whole"}));
  expect_same_output("whole", "parts");
}

INSTANTIATE_TEST_SUITE_P(Resume, KilledAfterEachBlock,
                         ::testing::Values(std::pair("mamba", "1"), std::pair("mamba", "2"),
                                           std::pair("llama", "1"), std::pair("llama", "2"),
                                           std::pair("feedback", "2")),
                         [](const auto& entry) {
                           return std::string(entry.param.first) + "_threads_" + entry.param.second;
                         });

TEST_F(Resume, KilledAtRandomMomentsEndsWithTheSameBytes) {
  const auto start = std::chrono::steady_clock::now();
  run_well(mamba_run_ + Words{"-o", "whole", "--quiet"});
  const std::chrono::duration<double, std::milli> whole = std::chrono::steady_clock::now() - start;
  std::mt19937 random(6);
  std::uniform_real_distribution<double> fraction(0, 0.7);
  int killed = 0;
  for (int i = 0; i < 8; ++i) {
    const int delay_ms = static_cast<int>(fraction(random) * whole.count());
    const ProcessResult result =
        run_signalled(mamba_run_ + Words{"-o", "parts", "--resume"}, {SIGKILL}, "", delay_ms);
    killed += result.exit_code == 128 + SIGKILL ? 1 : 0;
    // The kill may also come between the last rename and the exit.
    if (fs::exists(directory_ / "parts")) {
      expect_same_output("whole", "parts");
      fs::remove_all(directory_ / "parts");
    }
  }
  EXPECT_GT(killed, 2);
  run_well(mamba_run_ + Words{"-o", "parts", "--resume"});
  EXPECT_EQ(directory_.list(), (Words{"parts", "whole"}));
  expect_same_output("whole", "parts");
}

TEST_F(Resume, CalibrationTextIsNotWrittenTwice) {
  const Words arguments = {model_,      "--method", "quamba",       "--samples", "64",
                           "--seq-len", "32",       "--save-every", "0"};
  run_well(arguments + Words{"-o", "whole", "--quiet"});
  const ProcessResult killed =
      run_signalled(arguments + Words{"-o", "parts"}, {SIGKILL}, "the calibration text is kept");
  ASSERT_EQ(killed.exit_code, 128 + SIGKILL) << killed.err;
  const ProcessResult last = run_well(arguments + Words{"-o", "parts", "--resume"});
  EXPECT_NE(last.err.find("going on after block"), std::string::npos) << last.err;
  EXPECT_EQ(last.err.find("writes its own calibration text"), std::string::npos) << last.err;
  expect_same_output("whole", "parts");
}

// What follows `before` on its line; empty if it is not there.
std::string rest_of_line(const std::string& text, const std::string& before) {
  const size_t begin = text.find(before);
  if (begin == std::string::npos) return "";
  return text.substr(begin + before.size(), text.find('\n', begin) - begin - before.size());
}

TEST_F(Resume, CtrlCFinishesTheBlockAndThePrintedCommandGoesOn) {
  const Words arguments = mamba_run_ + Words{"--skip", "*.3.mixer.x_proj"};
  run_well(arguments + Words{"-o", "whole", "--quiet"});
  for (const int signal : {SIGINT, SIGTERM}) {
    const ProcessResult result = run_signalled(arguments + Words{"-o", "a part's"}, {signal}, kept(1), 50);
    EXPECT_EQ(result.exit_code, 5) << result.err;
    EXPECT_EQ(result.out, "");
    EXPECT_NE(result.err.find("error: interrupted"), std::string::npos) << result.err;
    EXPECT_EQ(directory_.list(), (Words{".a part's.partial", "whole"}));
    // The last block that was begun is the last that is kept.
    const std::string blocks = rest_of_line(result.err, "warning: ").substr(0, 1);
    const size_t stopping = result.err.find("stopping after this block"), at = result.err.find(kept(blocks));
    ASSERT_NE(stopping, std::string::npos) << result.err;
    EXPECT_NE(at, std::string::npos) << result.err;
    EXPECT_TRUE(stopping < at || blocks == "1") << result.err;
    const std::string command = rest_of_line(result.err, "to go on: ");
    EXPECT_TRUE(command.ends_with(" --resume")) << command;
    const ProcessResult last =
        testing::run_process({"/bin/sh", "-c", command}, {.directory = directory_.path()});
    EXPECT_EQ(last.exit_code, 0) << last.err;
    EXPECT_NE(last.err.find("going on after block " + blocks), std::string::npos) << last.err;
    expect_same_output("whole", "a part's");
    fs::remove_all(directory_ / "a part's");
  }
}

TEST_F(Resume, SecondCtrlCStopsAtOnceAndWhatWasFinishedStays) {
  run_well(mamba_run_ + Words{"-o", "whole", "--quiet"});
  // Two of the same signal may arrive as one.
  const ProcessResult result = run_signalled(mamba_run_ + Words{"-o", "parts"}, {SIGINT, SIGTERM}, kept(1));
  EXPECT_EQ(result.exit_code, 5) << result.err;
  EXPECT_EQ(result.err.find(kept(2)), std::string::npos) << result.err;
  EXPECT_EQ(directory_.list(), (Words{".parts.partial", "whole"}));
  const ProcessResult last = run_well(mamba_run_ + Words{"-o", "parts", "--resume"});
  EXPECT_NE(last.err.find("going on after block 1 of 4"), std::string::npos) << last.err;
  expect_same_output("whole", "parts");
}

TEST_F(Resume, BlocksThatAreNotDueAreKeptTogether) {
  const ProcessResult result = run_well(mamba_run_that_saves_seldom_ + Words{"-o", "q", "-v"});
  const size_t at = result.err.find("is kept");
  EXPECT_EQ(result.err.substr(at - 13, 20), "block 4 of 4 is kept") << result.err;
  EXPECT_EQ(result.err.find("is kept", at + 1), std::string::npos) << result.err;
}

TEST_F(Resume, CtrlCKeepsABlockThatIsNotDue) {
  const Words& arguments = mamba_run_that_saves_seldom_;
  run_well(arguments + Words{"-o", "whole", "--quiet"});
  const ProcessResult result = run_signalled(arguments + Words{"-o", "parts"}, {SIGINT}, finished(1));
  EXPECT_EQ(result.exit_code, 5) << result.err;
  const std::string blocks = rest_of_line(result.err, "warning: ").substr(0, 1);
  EXPECT_NE(result.err.find(kept(blocks)), std::string::npos) << result.err;
  EXPECT_EQ(result.err.find("block " + std::to_string(std::stoi(blocks) + 1)), std::string::npos)
      << result.err;
  const ProcessResult last = run_well(arguments + Words{"-o", "parts", "--resume"});
  EXPECT_NE(last.err.find("going on after block " + blocks), std::string::npos) << last.err;
  expect_same_output("whole", "parts");
}

// The spool then holds more than the state speaks of.
TEST_F(Resume, KilledWithBlocksThatWereNotDueGoesOnFromTheLastThatWas) {
  run_well(mamba_run_ + Words{"-o", "whole", "--quiet"});
  ASSERT_TRUE(killed_after(mamba_run_ + Words{"-o", "parts"}, 1));
  const Words seldom = mamba_run_that_saves_seldom_ + Words{"-o", "parts", "--resume"};
  const ProcessResult killed = run_signalled(seldom, {SIGKILL}, finished(3));
  ASSERT_EQ(killed.exit_code, 128 + SIGKILL) << killed.err;
  const ProcessResult last = run_well(seldom);
  EXPECT_NE(last.err.find("going on after block 1 of 4"), std::string::npos) << last.err;
  expect_same_output("whole", "parts");
}

class ErrorThatComesAgain : public ResumeCli {
 protected:
  // A model whose second block cannot be quantized. What the first has left must not be advertised.
  void expect_nothing_kept(const testing::TinyMamba& model, const std::string& words) const {
    directory_.write("m.safetensors", model.bytes());
    directory_.write("ids.bin", std::string("\1\0\2\0\3\0\4\0", 8) + std::string(56, '\0'));
    const Words arguments = {"m.safetensors",
                             "--method",
                             "quamba",
                             "--calib",
                             "ids.bin",
                             "--token-dtype",
                             "u16",
                             "--samples",
                             "4",
                             "--seq-len",
                             "8",
                             "--save-every",
                             "0",
                             "-o",
                             "q",
                             "-v"};
    const ProcessResult result = run(arguments);
    EXPECT_EQ(result.exit_code, 1) << result.err;
    EXPECT_NE(result.err.find("block 1 of 2 is kept"), std::string::npos) << result.err;
    EXPECT_NE(result.err.find(words), std::string::npos) << result.err;
    EXPECT_EQ(result.err.find("--resume"), std::string::npos) << result.err;
    EXPECT_EQ(directory_.list(), (Words{"ids.bin", "m.safetensors"}));
  }
};

TEST_F(ErrorThatComesAgain, NanInALaterWeightKeepsNothing) {
  testing::TinyMamba model(2);
  model.values["backbone.layers.1.mixer.in_proj.weight"][3] = std::nanf("");
  expect_nothing_kept(model, "1 of 64 values are NaN or infinite");
}

TEST_F(ErrorThatComesAgain, OverflowInALaterActivationKeepsNothing) {
  testing::TinyMamba model(2);
  for (float& value : model.values["backbone.layers.1.mixer.out_proj.weight"]) value *= 1e38F;
  for (float& value : model.values["backbone.layers.1.mixer.in_proj.weight"]) value *= 1e4F;
  expect_nothing_kept(model, "NaN or infinite");
}

TEST_F(Resume, WithoutStateItStartsAtTheBeginning) {
  const Words arguments = Words{model_, "--method", "rtn", "-o", "q", "--resume"} + small_;
  const ProcessResult result = run_well(arguments);
  EXPECT_NE(result.err.find("nothing to resume"), std::string::npos) << result.err;
  expect_error(arguments, 1, {"q: already exists", "--force"});
  run_well(arguments + Words{"--force"});
  EXPECT_EQ(directory_.list(), Words{"q"});
}

TEST_F(Resume, WithoutTheOptionTheStateIsDroppedAndTheLogSaysSo) {
  ASSERT_TRUE(killed_after(llama_run_ + Words{"-o", "q"}, 2));
  const ProcessResult result = run_well(mamba_run_ + Words{"-o", "q"});
  EXPECT_NE(result.err.find(".q.partial is dropped"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("--resume"), std::string::npos) << result.err;
  EXPECT_EQ(directory_.list(), Words{"q"});
}

TEST_F(Resume, DirectoryOfOthersIsLeftAlone) {
  directory_.write(".q.partial/letter.txt", "dear");
  expect_error(mamba_run_ + Words{"-o", "q"}, 1, {".q.partial", "not made by this program"});
  EXPECT_EQ(directory_.read(".q.partial/letter.txt"), "dear");
}

// A run that starts over drops the state only when its inputs are known to be good.
TEST_F(Resume, WrongInputsLeaveTheStateAlone) {
  ASSERT_TRUE(killed_after(mamba_run_ + Words{"-o", "q"}, 2));
  expect_error({model_, "--method", "quamba", "--calib", "nothing.txt", "-o", "q"}, 1, {"nothing.txt"});
  const ProcessResult result = run_well(mamba_run_ + Words{"-o", "q", "--resume"});
  EXPECT_NE(result.err.find("going on after block 2 of 4"), std::string::npos) << result.err;
}

TEST_F(Resume, WhatOnlyMattersAtTheEndMayChange) {
  const Words& arguments = mamba_run_;
  const std::string text = directory_.write("text/eval.txt", "To be, or not to be, that is the question.");
  run_well(arguments + Words{"-o", "whole", "--quiet", "--eval-text", text});
  const ProcessResult strict = run(arguments + Words{"-o", "parts", "--strict", "--eval-text", noise()});
  EXPECT_EQ(strict.exit_code, 1);
  EXPECT_NE(strict.err.find("4 of 4 blocks are finished and kept"), std::string::npos) << strict.err;
  const ProcessResult last = run_well(arguments + Words{"-o", "parts", "--eval-text", text, "--resume"});
  EXPECT_NE(last.err.find("going on after block 4 of 4"), std::string::npos) << last.err;
  expect_same_output("whole", "parts");
}

}  // namespace
}  // namespace ptq
