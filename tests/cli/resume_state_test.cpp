// What --resume refuses to go on from. tests/pipeline has every way in which a state can be damaged.
#include "cli/resume.h"

namespace ptq {
namespace {

namespace fs = std::filesystem;

class ResumeState : public ResumeCli {
 protected:
  const std::string state_ = ".q.partial/state";
  const Words resume_ = mamba_run_ + Words{"-o", "q", "--resume"};

  // Leaves a run of mamba_run_ with a block finished.
  void SetUp() override { ASSERT_TRUE(killed_after(mamba_run_ + Words{"-o", "q"}, 1)); }
  // Expects --resume to be refused with `words`, and the state to stay as it is.
  void expect_not_resumed(const Words& arguments, const Words& words) const {
    const std::string before = directory_.read(state_);
    expect_error(arguments, 1, words + Words{"without --resume"});
    EXPECT_TRUE(directory_.read(state_) == before);
  }
};

TEST_F(ResumeState, DamageIsFound) {
  for (const std::string name : {"state", "windows", "tensors.spool"}) {
    const std::string whole = directory_.read(".q.partial/" + name);
    std::string damaged = whole;
    damaged[whole.size() / 4] = static_cast<char>(damaged[whole.size() / 4] ^ 4);
    directory_.write(".q.partial/" + name, damaged);
    expect_not_resumed(resume_, {name});
    directory_.write(".q.partial/" + name, whole);
  }
  run_well(resume_);
}

TEST_F(ResumeState, AnotherRunIsRefusedAndTheDifferenceNamed) {
  const Words tail = {"-o", "q", "--resume"};
  expect_not_resumed(mamba_run_ + tail + Words{"--seed", "1"}, {"seed is 0 there, 1 here"});
  expect_not_resumed(mamba_run_ + tail + Words{"--threads", "2"}, {"program.threads is 1 there, 2 here"});
  expect_not_resumed(mamba_run_ + tail + Words{"--set", "quamba.percentile=0.999"}, {"recipe.steps["});
  expect_not_resumed(mamba_run_ + tail + Words{"--calib", eval_}, {"calibration[1] is absent there"});
  expect_not_resumed(llama_run_ + tail, {"source.name is \"model.pt\" there, \"llama-1m\" here"});
  fs::copy_file(model_, directory_ / "model.pt");
  fs::copy_file(tokenizer_, directory_ / "tokenizer.json");
  std::string weights = directory_.read("model.pt");
  weights[weights.size() / 2] = static_cast<char>(weights[weights.size() / 2] ^ 1);
  directory_.write("model.pt", weights);
  expect_not_resumed(Words{"model.pt", "--method", "quamba"} + rows_ + tail, {"source.files.model.pt is "});
  run_well(resume_);
}

}  // namespace
}  // namespace ptq
