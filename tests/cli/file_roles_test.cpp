// What the words of a command line name: a path's own name, and files in two roles.
#include "cli/cli.h"

namespace ptq {
namespace {

class FileRoles : public Cli {
 protected:
  const std::string llama_ = PTQ_TEST_DATA "/llama-1m";
  const Words rtn_ = Words{"--method", "rtn", "--bits", "w8a16"} + small_;

  void copy_model() const { std::filesystem::copy(llama_, directory_ / "m"); }
  // An action in the directory `name` of the test's.
  ProcessResult run_in(const std::string& name, const Words& arguments) const {
    ProcessOptions options;
    options.directory = directory_ / name;
    return testing::run_process(Words{PTQ_PROGRAM} + arguments, options);
  }
};

TEST_F(FileRoles, TrailingSlashLeavesTheNameOfTheModel) {
  copy_model();
  const ProcessResult result = run_well(Words{"m/"} + rtn_);
  EXPECT_EQ(directory_.list(), (Words{"m", "m-rtn-w8a16"}));
  EXPECT_EQ(report("m-rtn-w8a16")["source"]["name"], "m");
  EXPECT_NE(result.out.find("m -> m-rtn-w8a16"), std::string::npos) << result.out;
}

TEST_F(FileRoles, DefaultOutputInTheModelsOwnFolderIsRefused) {
  copy_model();
  for (const Words& command : {Words{"."}, Words{"plan", "."}}) {
    const ProcessResult result = run_in("m", command + rtn_);
    EXPECT_EQ(result.exit_code, 2) << result.err;
    EXPECT_NE(result.err.find("m-rtn-w8a16: the default output would lie in the model's own folder"),
              std::string::npos)
        << result.err;
  }
  const ProcessResult result = run_in("m", Words{"."} + rtn_ + Words{"-o", "../q"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(report("q")["source"]["name"], "m");
}

TEST_F(FileRoles, EmptyValuesAreUsageErrors) {
  for (const char* option : {"--output", "--log-file", "--eval-text", "--recipe", "--config", "--tokenizer"})
    expect_error(Words{model_} + rtn_ + Words{option, ""}, 2, {option, "is empty"});
  expect_error(Words{model_} + rtn_ + Words{"-o", ""}, 2, {"--output", "is empty"});
}

TEST_F(FileRoles, FileInTwoRolesIsRefusedAndUntouched) {
  copy_model();
  const std::string text = directory_.write("text.txt", std::string(4000, 'a'));
  std::filesystem::create_symlink("text.txt", directory_ / "link");
  std::filesystem::create_hard_link(text, directory_ / "hard");
  const Words run_of_m = {"m", "--method", "rtn", "--calib", "text.txt", "-o", "q"};
  const auto refused = [&](const Words& arguments, const Words& words) {
    expect_error(run_of_m + arguments, 2, words);
  };
  for (const char* name : {"text.txt", "link", "hard", "./m/../text.txt"})
    refused({"--log-file", name}, {"--log-file", name, "is what --calib names, which is read"});
  refused({"--log-file", "q"}, {"--output", "is what --log-file names, too"});
  refused({"--log-file", "q/log"}, {"lies in the directory of --output"});
  refused({"--log-file", "m/config.json"}, {"is a file that is read with MODEL"});
  refused({"--log-file", "m/model.safetensors"}, {"is a file that is read with MODEL"});
  expect_error({"eval", "m", "--text", "text.txt", "--log-file", "link"}, 2, {"is what --text names"});
  expect_error({"m", "--method", "rtn", "-o", "m", "--force"}, 2, {"is what MODEL names"});
  EXPECT_EQ(directory_.read("text.txt"), std::string(4000, 'a'));
  EXPECT_EQ(directory_.read("m/config.json").front(), '{');
  run_well(Words{"m"} + rtn_ + Words{"-o", "q", "--log-file", "m/run.log"});
}

TEST_F(FileRoles, DeletedWorkingDirectoryIsAnErrorOfItsOwn) {
  directory_.write("gone/x", "");
  const std::string there = "cd " + directory_ / "gone" + " && rm -r ../gone && exec " + PTQ_PROGRAM + " ";
  const ProcessResult result = testing::run_process(
      {"/bin/sh", "-c", there + model_ + " --method rtn --calib " + calib_ + " -o " + directory_ / "q"});
  EXPECT_EQ(result.exit_code, 1) << result.err;
  EXPECT_NE(result.err.find("error: the working directory: cannot be used"), std::string::npos) << result.err;
  EXPECT_TRUE(directory_.list().empty());
}

}  // namespace
}  // namespace ptq
