#include "ptq/comm/launch.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>

#include "ptq/base/error.h"

namespace ptq {
namespace {

// The variables that a launcher sets are these and no others.
Launch launched(const std::map<std::string, std::string>& variables) {
  for (const char* name : {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "SLURM_PROCID", "SLURM_NTASKS",
                           "SLURM_STEP_NODELIST", "SLURM_JOB_ID", "TORCHELASTIC_USE_AGENT_STORE",
                           "TORCHELASTIC_RESTART_COUNT"}) {
    ::unsetenv(name);
  }
  for (const auto& [name, value] : variables) ::setenv(name.c_str(), value.c_str(), 1);
  return launch_from_environment();
}

void expect_refused(const std::map<std::string, std::string>& variables, const std::string& word) {
  try {
    launched(variables);
    ADD_FAILURE() << "nothing was refused; expected: " << word;
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kUsage);
    EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
  }
}

const std::map<std::string, std::string> kByHand = {
    {"RANK", "1"}, {"WORLD_SIZE", "3"}, {"MASTER_ADDR", "node4"}, {"MASTER_PORT", "29500"}};

std::map<std::string, std::string> changed(const std::string& name, const std::string& value) {
  auto variables = kByHand;
  variables[name] = value;
  return variables;
}

TEST(Launch, VariablesSetByHandAreTaken) {
  const Launch launch = launched(kByHand);
  EXPECT_EQ(launch.rank, 1);
  EXPECT_EQ(launch.size, 3);
  EXPECT_EQ(launch.address, "node4");
  EXPECT_EQ(launch.port, 29500);
  EXPECT_FALSE(launch.launcher_keeps_store);
}

TEST(Launch, TorchrunKeepsTheStore) {
  auto variables = changed("TORCHELASTIC_USE_AGENT_STORE", "True");
  variables["TORCHELASTIC_RESTART_COUNT"] = "2";
  const Launch launch = launched(variables);
  EXPECT_TRUE(launch.launcher_keeps_store);
  EXPECT_EQ(launch.generation, "2");
}

TEST(Launch, StepOfSlurmNeedsNothingElse) {
  std::map<std::string, std::string> variables = {{"SLURM_PROCID", "3"},
                                                  {"SLURM_NTASKS", "8"},
                                                  {"SLURM_STEP_NODELIST", "node[03-05,9],big1"},
                                                  {"SLURM_JOB_ID", "4000123"}};
  Launch launch = launched(variables);
  EXPECT_EQ(launch.rank, 3);
  EXPECT_EQ(launch.size, 8);
  EXPECT_EQ(launch.address, "node03");
  EXPECT_EQ(launch.port, 20123);
  variables["SLURM_STEP_NODELIST"] = "big1,node[3-4]";
  EXPECT_EQ(launched(variables).address, "big1");
  variables["SLURM_STEP_NODELIST"] = "big1";
  EXPECT_EQ(launched(variables).address, "big1");
  variables["MASTER_PORT"] = "1234";
  EXPECT_EQ(launched(variables).port, 1234);
}

TEST(Launch, MissingVariableIsNamed) {
  for (const auto& [name, value] : kByHand) {
    auto variables = kByHand;
    variables.erase(name);
    expect_refused(variables, name + " is not set");
  }
  // Of a batch step that is no step of srun.
  expect_refused({{"SLURM_NTASKS", "8"}, {"SLURM_JOB_ID", "1"}}, "WORLD_SIZE is not set");
}

TEST(Launch, ValueOutOfItsRangeIsRefused) {
  expect_refused(changed("RANK", "3"), "3 is no rank of WORLD_SIZE=3");
  expect_refused(changed("RANK", "-1"), "\"-1\" is not a number from 0");
  expect_refused(changed("RANK", "one"), "\"one\"");
  expect_refused(changed("WORLD_SIZE", "0"), "WORLD_SIZE");
  expect_refused(changed("WORLD_SIZE", "3x"), "\"3x\"");
  expect_refused(changed("MASTER_PORT", "65536"), "MASTER_PORT");
}

}  // namespace
}  // namespace ptq
