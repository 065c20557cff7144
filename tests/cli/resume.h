// Runs that are stopped and go on, and the comparison of what they wrote.
#pragma once

#include <signal.h>

#include <sstream>

#include "cli/cli.h"

namespace ptq {

class ResumeCli : public Cli {
 protected:
  // Rows enough that a block takes longer than a signal needs to arrive.
  const Words rows_ = {"--samples", "24", "--seq-len", "128", "--calib", calib_};
  const std::string llama_ = PTQ_TEST_DATA "/llama-1m";
  const Words every_block_ = {"--save-every", "0"}, seldom_ = {"--save-every", "1h"};
  const Words mamba_run_ = Words{model_, "--method", "quamba"} + rows_ + every_block_;
  const Words mamba_run_that_saves_seldom_ = Words{model_, "--method", "quamba"} + rows_ + seldom_;
  const Words llama_run_ = Words{llama_, "--method", "duquant", "--bits", "w4a4"} + rows_ + every_block_;

  ProcessResult run_signalled(const Words& arguments, const std::vector<int>& signals,
                              const std::string& after, int delay_ms = 0) const {
    ProcessOptions options;
    options.signals = signals;
    options.signal_after = after;
    options.signal_delay_ms = delay_ms;
    return run(arguments + Words{"-v"}, options);
  }
  static std::string finished(int blocks) { return "block " + std::to_string(blocks) + " of 4 is finished"; }
  // What the log says once so many of a sample model's blocks are on disk.
  static std::string kept(const std::string& blocks) { return "block " + blocks + " of 4 is kept"; }
  static std::string kept(int blocks) { return kept(std::to_string(blocks)); }

  // Kills the run when so many blocks are kept. False if it came to its end before the signal did, which a
  // busy machine may do after the last block.
  bool killed_after(const Words& arguments, int blocks) const {
    const ProcessResult result = run_signalled(arguments, {SIGKILL}, kept(blocks));
    EXPECT_TRUE(result.exit_code == 128 + SIGKILL || result.exit_code == 0) << result.err;
    return result.exit_code != 0;
  }

  // Expects two outputs to be the same but for the times in the report, and SHA256SUMS to be right about it.
  void expect_same_output(const std::string& a, const std::string& b) const {
    EXPECT_EQ(list(a), list(b));
    for (const std::string& name : list(a)) {
      if (name == "report.json" || name == "SHA256SUMS") continue;
      EXPECT_TRUE(directory_.read(a + "/" + name) == directory_.read(b + "/" + name)) << name;
    }
    EXPECT_EQ(untimed_report(a), untimed_report(b));
    EXPECT_EQ(sums_but_report(a), sums_but_report(b));
    const ProcessResult sums = testing::run_process({"/bin/sh", "-c", "sha256sum -c --quiet SHA256SUMS"},
                                                    {.directory = directory_ / b});
    EXPECT_EQ(sums.exit_code, 0) << sums.out;
  }
  std::string untimed_report(const std::string& out) const {
    Json json = report(out);
    json.erase("time_ms");
    json.erase("peak_rss_bytes");
    return json.dump();
  }
  std::string sums_but_report(const std::string& out) const {
    std::istringstream lines(directory_.read(out + "/SHA256SUMS"));
    std::string text, line;
    while (std::getline(lines, line)) text += line.ends_with("  report.json") ? "" : line + "\n";
    return text;
  }
  Words list(const std::string& name) const {
    Words names;
    for (const auto& entry : std::filesystem::directory_iterator(directory_ / name))
      names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }
};

}  // namespace ptq
