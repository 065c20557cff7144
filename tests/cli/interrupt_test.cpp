// A run that cannot end well leaves nothing behind but what it can go on from: a full disk, Ctrl-C.
#include <signal.h>

#include "cli/cli.h"

namespace ptq {
namespace {

class Interrupt : public Cli {
 protected:
  ProcessResult run_limited(const Words& arguments, uint64_t max_file_bytes) const {
    ProcessOptions options;
    options.max_file_bytes = max_file_bytes;
    return run(arguments, options);
  }
  ProcessResult run_signalled(const Words& arguments, const std::vector<int>& signals,
                              const std::string& after) const {
    ProcessOptions options;
    options.signals = signals;
    options.signal_after = after;
    return run(arguments, options);
  }
};

TEST_F(Interrupt, FullDiskNamesTheFile) {
  const Words arguments = Words{model_, "--method", "quamba", "-o", "q"} + small_;
  const ProcessResult result = run_limited(arguments, 1000);
  EXPECT_EQ(result.exit_code, 1) << result.err;
  EXPECT_NE(result.err.find("error: "), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("File too large"), std::string::npos) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_TRUE(directory_.list().empty());
}

TEST_F(Interrupt, FullDiskKeepsTheBlocksThatAreFinished) {
  const Words arguments = Words{model_, "--method", "quamba", "--save-every", "0"} + small_;
  for (const uint64_t limit : {uint64_t{300'000}, uint64_t{950'000}}) {
    const ProcessResult result = run_limited(arguments + Words{"-o", "q"}, limit);
    EXPECT_EQ(result.exit_code, 1) << result.err;
    EXPECT_NE(result.err.find("File too large"), std::string::npos) << result.err;
    const size_t blocks = result.err.find(" of 4 blocks are finished and kept in ");
    ASSERT_NE(blocks, std::string::npos) << result.err;
    EXPECT_EQ(directory_.list(), Words{".q.partial"});
    const ProcessResult last = run_well(arguments + Words{"-o", "q", "--resume"});
    EXPECT_NE(last.err.find("going on after block " + result.err.substr(blocks - 1, 6)), std::string::npos)
        << result.err << last.err;
    EXPECT_EQ(directory_.list(), Words{"q"});
    std::filesystem::remove_all(directory_ / "q");
  }
}

TEST_F(Interrupt, CtrlCLeavesNothingBehind) {
  const Words written = {model_, "--method", "quamba", "--samples", "500", "--seq-len", "5000", "-o", "q"};
  const Words read = {model_,
                      "--method",
                      "quamba",
                      "--samples",
                      "4000",
                      "--seq-len",
                      "16",
                      "-o",
                      "q",
                      "--calib",
                      calib_,
                      "--set",
                      "quamba.search_rows=1000"};
  for (const Words& arguments : {written, read}) {
    for (const std::vector<int>& signals :
         {std::vector{SIGINT}, std::vector{SIGTERM}, std::vector{SIGINT, SIGTERM}}) {
      const ProcessResult result = run_signalled(arguments, signals, "info: ");
      EXPECT_EQ(result.exit_code, 5) << result.err;
      EXPECT_EQ(result.out, "");
      EXPECT_TRUE(directory_.list().empty());
    }
  }
}

}  // namespace
}  // namespace ptq
