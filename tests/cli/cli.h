// The program as a user runs it, in a directory of its own with the sample model.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "base/temp_directory.h"
#include "checkpoint/builders.h"
#include "ptq/base/json.h"
#include "support/process.h"

namespace ptq {

using Words = std::vector<std::string>;
using testing::ProcessOptions;
using testing::ProcessResult;

inline Words operator+(Words a, const Words& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

class Cli : public ::testing::Test {
 protected:
  const TempDirectory directory_;
  const std::string model_ = PTQ_TEST_DATA "/mamba-1m/model.pt";
  const std::string tokenizer_ = PTQ_TEST_DATA "/mamba-1m/tokenizer.json";
  const std::string calib_ = PTQ_TEST_DATA "/shakespeare-calib.txt";
  const std::string eval_ = PTQ_TEST_DATA "/shakespeare-eval.txt";
  // Enough for a run to do all it does.
  const Words small_ = {"--samples", "8", "--seq-len", "32", "--calib", calib_};

  ProcessResult run(const Words& arguments, ProcessOptions options = {}) const {
    options.directory = directory_.path();
    return testing::run_process(Words{PTQ_PROGRAM} + arguments, options);
  }
  // Runs, and expects exit code 0.
  ProcessResult run_well(const Words& arguments) const {
    const ProcessResult result = run(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result;
  }
  Json run_json(const Words& arguments) const {
    return parse_json(run_well(arguments + Words{"--json"}).out, "stdout");
  }
  // Quantizes the sample model into `out` with few calibration tokens.
  ProcessResult quantize(const Words& options, const std::string& out) const {
    return run_well(Words{model_} + options + small_ + Words{"-o", out, "--quiet"});
  }
  // A text that no model expects: for a run that --strict ends when all its blocks are done.
  std::string noise() const {
    std::string text;
    for (uint32_t i = 0, seed = 1; i < 4000; ++i) {
      seed = seed * 1664525 + 1013904223;
      text += static_cast<char>('!' + (seed >> 16) % 90);
    }
    return directory_.write("text/noise.txt", text);
  }
  Json report(const std::string& out) const { return read_json_file(directory_ / (out + "/report.json")); }
  std::string weights(const std::string& out) const { return directory_.read(out + "/model.safetensors"); }

  // Runs, and expects one message "error: ..." with all of `words`, the exit code, nothing on stdout, little
  // memory, and the directory as it was.
  void expect_error(const Words& arguments, int exit_code, const Words& words) const {
    const Words before = directory_.list();
    const ProcessResult result = run(arguments);
    EXPECT_EQ(result.exit_code, exit_code) << result.err;
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(directory_.list(), before);
    EXPECT_LT(result.peak_rss_bytes, int64_t{300} << 20);
    const size_t message = result.err.find("error: ");
    ASSERT_NE(message, std::string::npos) << result.err;
    EXPECT_EQ(result.err.find("error: ", message + 1), std::string::npos) << result.err;
    for (const std::string& word : words)
      EXPECT_NE(result.err.find(word, message), std::string::npos) << word << " in " << result.err;
  }
  // The same for quantizing a checkpoint.
  void expect_refused(const std::string& path, const Words& words, int exit_code = 1) const {
    expect_error(Words{"--method", "quamba", path, "-o", "out"} + Words{"--samples", "8", "--seq-len", "32"},
                 exit_code, words);
  }
};

}  // namespace ptq
