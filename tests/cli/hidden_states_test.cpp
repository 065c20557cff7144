// --hidden-states file: where the states lie changes no byte of the output, nor what a run goes on with.
#include "cli/resume.h"

namespace ptq {
namespace {

class HiddenStates : public ResumeCli {
 protected:
  const Words in_file_ = {"--hidden-states", "file"};

  void expect_ok(const Words& words) const {
    const ProcessResult result = run(words);
    EXPECT_EQ(result.exit_code, 0) << result.err;
  }
};

TEST_F(HiddenStates, InAFileGiveTheOutputOfThoseInMemory) {
  for (const Words& words : {mamba_run_, mamba_run_that_saves_seldom_, llama_run_}) {
    expect_ok(words + Words{"-o", "memory", "--force"});
    expect_ok(words + in_file_ + Words{"-o", "file", "--force"});
    expect_same_output("memory", "file");
  }
}

TEST_F(HiddenStates, ARunThatWasKilledGoesOnFromTheFileWithEitherPlace) {
  expect_ok(llama_run_ + Words{"-o", "whole"});
  for (const Words& place : {in_file_, Words{"--hidden-states", "memory"}}) {
    if (!killed_after(llama_run_ + in_file_ + Words{"-o", "q", "--force"}, 2)) continue;
    expect_ok(llama_run_ + place + Words{"-o", "q", "--force", "--resume"});
    expect_same_output("whole", "q");
    // And the other way round: kept from memory, gone on with in a file.
    if (!killed_after(llama_run_ + Words{"-o", "q", "--force"}, 2)) continue;
    expect_ok(llama_run_ + in_file_ + Words{"-o", "q", "--force", "--resume"});
    expect_same_output("whole", "q");
  }
}

TEST_F(HiddenStates, AnotherPlaceIsAUsageErrorAndAPlanKnowsThatAFileTakesNoMemory) {
  const ProcessResult wrong = run(mamba_run_ + Words{"--hidden-states", "disk", "-o", "q"});
  EXPECT_EQ(wrong.exit_code, 2);
  const auto planned = [&](const Words& place) {
    const Words words = Words{"plan", llama_,      "--method", "duquant", "--bits", "w4a4",  "--samples",
                              "512",  "--seq-len", "128",      "--calib", calib_,   "--json"};
    const ProcessResult result = run(words + place);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return Json::parse(result.out);
  };
  const Json memory = planned({}), file = planned(in_file_);
  EXPECT_LT(file["peak_memory_bytes"], memory["peak_memory_bytes"]);
  EXPECT_EQ(file["disk_bytes"], memory["disk_bytes"]);
}

}  // namespace
}  // namespace ptq
