// Checkpoints with tensors that no block reads, and the option that leaves them out.
#include "cli/cli.h"
#include "cli/tiny_mamba.h"

namespace ptq {
namespace {

using testing::TinyMamba;

class OtherTensors : public Cli {
 protected:
  const std::string lora_ = "backbone.layers.0.mixer.in_proj.lora_A";
  const Words run_ = {"--method", "rtn", "--samples", "2", "--seq-len", "4", "--threads", "1"};
  const Words ignore_ = {"--ignore-tensors", "*.lora_A"};

  void SetUp() override {
    TinyMamba model;
    directory_.write("plain/model.safetensors", model.bytes());
    model.shapes[lora_] = {2, 4};
    model.values[lora_] = std::vector<float>(8, 0.5F);
    directory_.write("lora/model.safetensors", model.bytes());
    directory_.write("ids.bin", std::string("\1\0\2\0\3\0\4\0", 8));
  }
  Words eval(const std::string& model) const {
    return {"eval", model, "--text", "ids.bin", "--token-dtype", "u16", "--seq-len", "4"};
  }
};

TEST_F(OtherTensors, AreAnErrorThatNamesThemWhereverTheModelIsUsed) {
  const Words words = {"1 tensor is not used by a mamba model", lora_, "--ignore-tensors"};
  expect_error(Words{"lora"} + run_ + Words{"-o", "q"}, 1, words);
  expect_error(Words{"plan", "lora"} + run_ + Words{"-o", "q"}, 1, words);
  expect_error(eval("lora"), 1, words);
  expect_error(eval("plain") + Words{"--against", "lora"}, 1, words);
  run_well(Words{"plain"} + run_ + Words{"-o", "q"});
  expect_error({"verify", "q", "--source", "lora"}, 1, words);
}

TEST_F(OtherTensors, LeftOutByPatternGiveTheModelWithoutThem) {
  run_well(Words{"plain"} + run_ + Words{"-o", "p"});
  run_well(Words{"lora"} + run_ + ignore_ + Words{"-o", "q"});
  EXPECT_EQ(weights("p"), weights("q"));
  EXPECT_EQ(report("q")["source"]["ignored_tensors"], Json({lora_}));
  EXPECT_FALSE(report("p")["source"].contains("ignored_tensors"));
  run_well(Words{"verify", "q", "--source", "lora"} + ignore_);
  run_well(Words{"plan", "lora"} + run_ + ignore_ + Words{"-o", "r"});
  EXPECT_EQ(run_json(eval("lora") + ignore_), run_json(eval("plain")));
  run_well(eval("q") + Words{"--against", "lora"} + ignore_);
}

TEST_F(OtherTensors, APatternThatMatchesNothingIsAWrongUse) {
  const Words wrong = {"--ignore-tensors", "*.lora_B"};
  const Words words = {"--ignore-tensors: no tensor matches \"*.lora_B\""};
  expect_error(Words{"lora"} + run_ + ignore_ + wrong + Words{"-o", "q"}, 2, words);
  expect_error(eval("plain") + Words{"--against", "lora"} + ignore_ + wrong, 2, words);
}

TEST_F(OtherTensors, WithoutAMethodThoseForTheModelAreNamed) {
  expect_error({"plain"}, 2, {"--method: is missing", "--method quamba for", "rtn for any model"});
  const std::string llama = PTQ_TEST_DATA "/llama-1m";
  expect_error({llama}, 2, {"--method: is missing", "--method duquant for", "rtn for any model"});
  EXPECT_EQ(run({llama}).err.find("quamba"), std::string::npos);
}

}  // namespace
}  // namespace ptq
